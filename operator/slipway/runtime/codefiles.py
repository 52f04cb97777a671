"""The user's own code: which files define a class, and how they are imported again, far from where they were written.

Imported only in pods that train or compress: an artifact's `code/` is a program of its user.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from slipway.api.errors import ArtifactError

MAX_CODE_BYTES = 4 * 1024 * 1024
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a class or function of the user's is defined. files: by path below `code/`; the module is one of them."""

    module: str
    files: Mapping[str, Path]


class NotPortable(ArtifactError):
    """The code cannot travel with the model; the message says why."""


def source_of(thing: type | Callable[..., Any]) -> Source | None:
    """The files that define a class or function; None where it is installed with a package, as torch is.

    Raises NotPortable where it is defined inside a function, in no file, or in a script that would train when imported.
    """
    name = thing.__qualname__
    if "." in name:
        raise NotPortable(f"{name} is defined inside a function or class; move it to the top of its file")
    module = sys.modules.get(thing.__module__)
    origin = getattr(module, "__file__", None)
    if module is None or origin is None:
        raise NotPortable(f"{name} is defined in no file")
    path = Path(origin).resolve()
    if _is_installed(path):
        return None
    if module.__name__ == "__main__" and not has_main_guard(path.read_text()):
        raise NotPortable(f"{path.name} has no `if __name__ == '__main__':`, so importing it would run it")
    dotted = _dotted(module, path)
    root = path.parents[dotted.count(".") + (path.name == "__init__.py")]
    files = {path.relative_to(root).as_posix(): path, **_loaded_below(root)}
    if (size := sum(file.stat().st_size for file in files.values())) > MAX_CODE_BYTES:
        raise NotPortable(f"the code beside {path.name} has {size} bytes, more than {MAX_CODE_BYTES}")
    if bad := [file for file in files if not all(part.isidentifier() for part in file[:-3].split("/"))]:
        raise NotPortable(f"{bad[0]} cannot be imported by that name; rename it")
    if taken := {file.split("/")[0].removesuffix(".py") for file in files} & sys.stdlib_module_names:
        raise NotPortable(f"{min(taken)} is also the name of a module of Python; rename it")
    return Source(dotted, dict(sorted(files.items())))


def has_main_guard(text: str) -> bool:
    """Whether a script keeps what it does under `if __name__ == "__main__":`."""
    return any(
        isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))
        for node in ast.parse(text).body
    )


def import_code(root: Path, module: str) -> ModuleType:
    """Import a module of an artifact's `code/`, before any other of that name, and leave no bytecode beside it."""
    sys.dont_write_bytecode = True  # a file more would make it another artifact
    for top in {entry.stem for entry in root.iterdir()}:
        _forget(top, root)
    importlib.invalidate_caches()
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ArtifactError(f"the artifact's code cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(root))
        sys.path.append(str(root))  # for what it imports when it is called


@contextmanager
def modules_restored() -> Iterator[None]:
    """Undo afterwards what importing an artifact's code did to this process."""
    modules, path, bytecode = dict(sys.modules), list(sys.path), sys.dont_write_bytecode
    try:
        yield
    finally:
        sys.modules.update(modules)
        sys.path[:], sys.dont_write_bytecode = path, bytecode


def _forget(top: str, root: Path) -> None:
    """Drop modules of this name that were imported from somewhere else."""
    for name in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and not Path(origin).is_relative_to(root):
            del sys.modules[name]


def _dotted(module: ModuleType, path: Path) -> str:
    if module.__name__ != "__main__":
        return module.__name__
    spec = getattr(module, "__spec__", None)
    return spec.name if spec is not None else path.stem


def _loaded_below(root: Path) -> dict[str, Path]:
    """Files of all imported modules below the folder, but installed ones and Slipway's own."""
    found = {}
    for module in list(sys.modules.values()):
        origin = getattr(module, "__file__", None)
        if not isinstance(origin, str) or not origin.endswith(".py") or module.__name__.split(".")[0] == "slipway":
            continue
        path = Path(origin).resolve()
        # torch.ops calls itself _ops.py: a relative name that no file of the current folder has.
        if path.is_relative_to(root) and not _is_installed(path) and path.is_file():
            found[path.relative_to(root).as_posix()] = path
    return found


def _is_installed(path: Path) -> bool:
    standard_library = Path(ast.__file__).resolve().parent
    package = Path(__file__).resolve().parents[1]
    inside = path.is_relative_to(standard_library) or path.is_relative_to(package)
    return inside or any(part in _INSTALLED for part in path.parts)
