"""What pods run: one Python environment of the locked packages and the project, and Triton as a command.

It lies at /opt/slipway on the host; pods of slipway.local images see it read-only at the same path.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from devcluster import needs, paths

# Debian's own: pods run as users that cannot read an interpreter below root's home.
_PYTHON = "/usr/bin/python3.11"
_LIBPYTHON = "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"
_VENV = paths.POD_ENVIRONMENT / "venv"
_SITE = _VENV / "lib" / "python3.11" / "site-packages"
_BACKENDS = paths.POD_ENVIRONMENT / "triton" / "backends"
_LAUNCHER = paths.POD_ENVIRONMENT / "bin" / "tritonserver"
_OWN = ("slipway", "slipway_plugins")


def main(arguments: Sequence[str] = ()) -> int:
    """Install what has changed: the locked packages (minutes, once), the project's own code (seconds)."""
    if arguments:
        raise SystemExit("install-env takes no arguments")
    started = time.monotonic()
    needs.root()
    needs.programs([_PYTHON, _LIBPYTHON])
    uv = shutil.which("uv")
    if uv is None:
        raise needs.Missing("uv is missing: run `pip install uv`")
    done = [name for name, changed in (("packages", _packages(uv)), ("project", _project(uv))) if changed]
    what = " and ".join(done) if done else "nothing new"
    print(f"{paths.POD_ENVIRONMENT}: {what}, {time.monotonic() - started:.1f} s")
    return 0


def _packages(uv: str) -> bool:
    lock = paths.REPOSITORY / "requirements.lock"
    stamp = paths.POD_ENVIRONMENT / "packages.digest"
    digest = _digest([lock, Path(__file__)])
    if _read(stamp) == digest:
        return False
    stamp.unlink(missing_ok=True)
    _run([uv, "venv", "--quiet", "--clear", f"--python={_PYTHON}", str(_VENV)])
    _run(
        [
            uv,
            "pip",
            "sync",
            "--quiet",
            f"--python={_VENV}/bin/python",
            "--require-hashes",
            "--compile-bytecode",
            str(lock),
        ]
    )
    _install_triton()
    stamp.write_text(digest)
    return True


def _project(uv: str) -> bool:
    stamp = paths.POD_ENVIRONMENT / "project.digest"
    sources = [paths.REPOSITORY / "pyproject.toml"]
    for folder in (paths.REPOSITORY / "operator", paths.REPOSITORY / "plugins"):
        sources += [file for file in sorted(folder.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    # Packages installed anew have lost the project.
    digest = _digest([*sources, paths.POD_ENVIRONMENT / "packages.digest"])
    if _read(stamp) == digest:
        return False
    stamp.unlink(missing_ok=True)
    install = ["--quiet", f"--python={_VENV}/bin/python", "--no-deps", "--reinstall", str(paths.REPOSITORY)]
    _run([uv, "pip", "install", *install])
    own = [str(_SITE / package) for package in _OWN if (_SITE / package).is_dir()]
    _run([str(_VENV / "bin" / "python"), "-m", "compileall", "-q", *own])
    stamp.write_text(digest)
    return True


def _install_triton() -> None:
    """Make a `tritonserver` command that takes the production image's flags, out of the pytriton wheel's parts."""
    bundled = _SITE / "pytriton" / "tritonserver"
    if not bundled.is_dir():
        raise SystemExit(f"{bundled} is missing: nvidia-pytriton must be in requirements.lock")
    backend = _BACKENDS / "python"
    shutil.rmtree(backend, ignore_errors=True)
    shutil.copytree(bundled / "backends" / "python", backend)
    stub = bundled / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    shutil.copy(stub, backend / stub.name)
    (backend / stub.name).chmod(0o755)
    server = bundled / "bin" / "tritonserver"
    server.chmod(0o755)
    _LAUNCHER.parent.mkdir(parents=True, exist_ok=True)
    _LAUNCHER.write_text(
        "#!/bin/sh\n"
        "# Made by dev/cluster/install-env. The stub of the python backend runs the first python on PATH.\n"
        f'export PATH="{_VENV}/bin:$PATH"\n'
        f'export LD_LIBRARY_PATH="{_SITE}/nvidia_pytriton.libs${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"\n'
        f'exec {server} --backend-directory={_BACKENDS} "$@"\n'
    )
    _LAUNCHER.chmod(0o755)


def _digest(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for file in files:
        # Named as in the repository: another checkout of the same content has the same environment.
        name = file.relative_to(paths.REPOSITORY) if file.is_relative_to(paths.REPOSITORY) else file
        content.update(str(name).encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr.strip()}")
