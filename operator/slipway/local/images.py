"""Stand-ins for the two images: this Python environment as the runtime, and the wheel's tritonserver for serving.

nvidia-pytriton brings tritonserver; its python backend needs a stub for this Python version.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from slipway.api.errors import SlipwayError
from slipway.local.environment import ContainerConfigError
from slipway.plan.plan import Settings

_PYTHONS = ("python", "python3")
_SERVER = "tritonserver"


@dataclass(frozen=True, slots=True)
class Images:
    """The two images of a local run. triton: None if nothing is served."""

    runtime: str
    serving: str
    triton: Triton | None = None

    @property
    def settings(self) -> Settings:
        return Settings(self.runtime, self.serving, isolated=False)

    def command(self, image: str, command: Sequence[str], address: str) -> list[str]:
        """Return the command to execute in place of one of that image. Raises ContainerConfigError for other images."""
        if image not in (self.runtime, self.serving):
            raise ContainerConfigError(f"image {image}: only Slipway's own images work without a cluster")
        program, *arguments = command
        if _SERVER in arguments and self.triton is not None:
            at = command.index(_SERVER)
            return [*self.command(image, command[:at], address), *self.triton.command(command[at + 1 :], address)]
        return [sys.executable if program in _PYTHONS else program, *arguments]

    def environment(self, image: str, path: str) -> dict[str, str]:
        """Return the variables that the image adds. path: PATH so far."""
        return self.triton.environment(path) if image == self.serving and self.triton is not None else {}


def make_images(triton: Triton | None = None) -> Images:
    """Return images named by this version, so that steps of another version are not reused."""
    tag = version("slipway-operator")
    return Images(f"slipway.local/runtime:{tag}", f"slipway.local/serving:{tag}", triton)


_WHEEL = "nvidia-pytriton"
_OLDEST_GLIBC = (2, 35)
_STUB = "triton_python_backend_stub"
_SHM = Path("/dev/shm")  # noqa: S108 - where Triton's stub has it
_SHM_PREFIX = "slipway-"


class TritonMissing(SlipwayError):
    """No tritonserver can run here; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Triton:
    """A tritonserver with the python backend alone. backends: folder of them; libraries: for the loader."""

    program: Path
    backends: Path
    libraries: tuple[Path, ...]

    def command(self, arguments: Sequence[str], address: str) -> list[str]:
        """Return the command that listens on that address only: each pod has its own, with the same ports."""
        own = [f"--{protocol}-address={address}" for protocol in ("http", "grpc", "metrics")]
        own.append(f"--backend-config=python,shm-region-prefix-name={_SHM_PREFIX}{address}-")
        return [str(self.program), f"--backend-directory={self.backends}", *arguments, *own]

    def environment(self, path: str) -> dict[str, str]:
        """Return variables by which the stub of the python backend finds this Python: it runs the first one of PATH."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{path}",
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in self.libraries),
        }


def remove_shared_memory(block: str, shm: Path = _SHM) -> None:
    """Remove the shared memory that a killed Triton left. block: of addresses, reserved by this run."""
    for left in shm.glob(f"{_SHM_PREFIX}{block}.*"):
        with contextlib.suppress(OSError):  # another user's
            left.unlink()


def find_triton(folder: Path) -> Triton:
    """Return the installed tritonserver, with its backends assembled below the folder. Raises TritonMissing."""
    try:
        packages = Path(str(distribution(_WHEEL).locate_file("")))
    except PackageNotFoundError as error:
        raise TritonMissing(
            "serving needs tritonserver: pip install 'slipway-operator[local]' (Linux on x86-64), "
            "or remove the ModelDeployment from the files"
        ) from error
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(map(int, version.split(".")[:2])) < _OLDEST_GLIBC:
        raise TritonMissing(f"tritonserver needs glibc 2.35 or newer, and this machine has {version}")
    libraries = (packages / "nvidia_pytriton.libs", *_find_libpython())
    bundled = packages / "pytriton" / "tritonserver"
    return Triton(bundled / "bin" / "tritonserver", assemble_backends(bundled, folder / "backends"), libraries)


def assemble_backends(bundled: Path, folder: Path) -> Path:
    """Copy the python backend and this interpreter's stub to a folder of backends for tritonserver.

    bundled: pytriton/tritonserver of the wheel. Raises TritonMissing if it has no stub for this Python.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = bundled / "python_backend_stubs" / version / _STUB
    if not stub.exists():
        raise TritonMissing(f"tritonserver's python backend does not support Python {version}; use 3.11 or 3.12")
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    for file in (*(bundled / "backends" / "python").iterdir(), stub):
        copy = python / file.name
        if not copy.exists() or copy.stat().st_mtime != file.stat().st_mtime:
            shutil.copy2(file, copy)
            copy.chmod(0o700)
    return folder


def _find_libpython() -> tuple[Path, ...]:
    """Return the folder of libpython, which the stub loads; nothing if the loader finds it by itself."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for folder in (sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")):
        if folder and (Path(folder) / name).exists():
            return (Path(folder),)
    try:
        ctypes.CDLL(name)
    except OSError as error:
        package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        raise TritonMissing(f"tritonserver's python backend needs {name}: apt-get install {package}") from error
    return ()
