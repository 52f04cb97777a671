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
from slipway.local.environment import CannotStart
from slipway.plan.plan import Settings

_PYTHONS = ("python", "python3")
_SERVER = "tritonserver"


@dataclass(frozen=True, slots=True)
class Images:
    """The two images of local mode. triton: None where nothing is served."""

    runtime: str
    serving: str
    triton: Triton | None = None

    @property
    def settings(self) -> Settings:
        return Settings(self.runtime, self.serving, isolated=False)

    def command(self, image: str, command: Sequence[str], address: str) -> list[str]:
        """What is executed for a command of a container of that image. Raises CannotStart for other images."""
        if image not in (self.runtime, self.serving):
            raise CannotStart(f"image {image}: without a cluster only Slipway's own images are there")
        program, *arguments = command
        if _SERVER in arguments and self.triton is not None:
            at = command.index(_SERVER)
            return [*self.command(image, command[:at], address), *self.triton.command(command[at + 1 :], address)]
        return [sys.executable if program in _PYTHONS else program, *arguments]

    def environment(self, image: str, path: str) -> dict[str, str]:
        """What the image adds to the variables. path: PATH so far."""
        return self.triton.environment(path) if image == self.serving and self.triton is not None else {}


def local_images(triton: Triton | None = None) -> Images:
    """Named by this version: another one's steps are not taken for its own."""
    tag = version("slipway-operator")
    return Images(f"slipway.local/runtime:{tag}", f"slipway.local/serving:{tag}", triton)


_WHEEL = "nvidia-pytriton"
_OLDEST_GLIBC = (2, 35)
_STUB = "triton_python_backend_stub"
_SHM = Path("/dev/shm")  # noqa: S108 - where Triton's stub has it
_SHM_PREFIX = "slipway-"


class TritonMissing(SlipwayError):
    """There is no tritonserver that could run here; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Triton:
    """A tritonserver with the python backend alone. backends: an assembled folder; libraries: for the loader."""

    program: Path
    backends: Path
    libraries: tuple[Path, ...]

    def command(self, arguments: Sequence[str], address: str) -> list[str]:
        """Listen on that address alone: each pod has one of its own, and all have the same ports."""
        own = [f"--{protocol}-address={address}" for protocol in ("http", "grpc", "metrics")]
        own.append(f"--backend-config=python,shm-region-prefix-name={_SHM_PREFIX}{address}-")
        return [str(self.program), f"--backend-directory={self.backends}", *arguments, *own]

    def environment(self, path: str) -> dict[str, str]:
        """The stub of the python backend is this Python's, and runs the first python of PATH. path: before it."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{path}",
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in self.libraries),
        }


def sweep(block: str, shm: Path = _SHM) -> None:
    """Remove the shared memory that a killed Triton left. block: of addresses, which nobody else has now."""
    for left in shm.glob(f"{_SHM_PREFIX}{block}.*"):
        with contextlib.suppress(OSError):  # another user's
            left.unlink()


def find_triton(folder: Path) -> Triton:
    """The installed one, with its backends assembled below the folder. Raises TritonMissing."""
    try:
        packages = Path(str(distribution(_WHEEL).locate_file("")))
    except PackageNotFoundError as error:
        raise TritonMissing(
            "serving needs tritonserver: pip install 'slipway-operator[local]' (Linux on x86-64), "
            "or leave the ModelDeployment out"
        ) from error
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(map(int, version.split(".")[:2])) < _OLDEST_GLIBC:
        raise TritonMissing(f"tritonserver needs glibc 2.35 or newer, and this machine has {version}")
    libraries = (packages / "nvidia_pytriton.libs", *_own_library())
    bundled = packages / "pytriton" / "tritonserver"
    return Triton(bundled / "bin" / "tritonserver", assembled(bundled, folder / "backends"), libraries)


def assembled(bundled: Path, folder: Path) -> Path:
    """Put the python backend and this interpreter's stub where tritonserver looks for backends.

    bundled: pytriton/tritonserver of the wheel. Raises TritonMissing where it has no stub for this Python.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = bundled / "python_backend_stubs" / version / _STUB
    if not stub.exists():
        raise TritonMissing(f"tritonserver's python backend does not know Python {version}; use 3.11 or 3.12")
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    for file in (*(bundled / "backends" / "python").iterdir(), stub):
        copy = python / file.name
        if not copy.exists() or copy.stat().st_mtime != file.stat().st_mtime:
            shutil.copy2(file, copy)
            copy.chmod(0o700)
    return folder


def _own_library() -> tuple[Path, ...]:
    """Where libpython lies, which the stub loads; empty where the loader finds it by itself."""
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
