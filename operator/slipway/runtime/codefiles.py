"""The user's own code: the files that define a class, and their import from an artifact.

Only pods that train or compress import this module: an artifact's `code/` is a program of its user.
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
    """The source files of a class or function of the user. files: by path below `code/`, with the module's own file."""

    module: str
    files: Mapping[str, Path]


class NotPortable(ArtifactError):
    """The code cannot be saved with the model; the message has the reason."""


def source_of(definition: type | Callable[..., Any]) -> Source | None:
    """Return the files that define a class or function; None if an installed package, such as torch, defines it.

    Raises NotPortable for a definition inside a function, outside a file, or in a script that trains when imported.
    """
    name = definition.__qualname__
    if "." in name:
        raise NotPortable(f"{name} is defined inside a function or class; move it to the top of its file")
    module = sys.modules.get(definition.__module__)
    origin = getattr(module, "__file__", None)
    if module is None or origin is None:
        raise NotPortable(f"{name} is not defined in a file; move it to one")
    path = Path(origin).resolve()
    if _is_installed(path):
        return None
    if module.__name__ == "__main__" and not has_main_guard(path.read_text()):
        raise NotPortable(f"{path.name} has no `if __name__ == '__main__':`, so an import would run it; add it")
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
    """Return True if a script has `if __name__ == "__main__":`."""
    return any(
        isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))
        for node in ast.parse(text).body
    )


def import_code(root: Path, module: str) -> ModuleType:
    """Import a module of an artifact's `code/`, before any other of that name, and write no bytecode."""
    sys.dont_write_bytecode = True  # another file would make it another artifact
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
        sys.path.append(str(root))  # for imports inside its functions


@contextmanager
def modules_restored() -> Iterator[None]:
    """Restore imported modules and sys.path after an import of an artifact's code."""
    modules, path, bytecode = dict(sys.modules), list(sys.path), sys.dont_write_bytecode
    try:
        yield
    finally:
        sys.modules.update(modules)
        sys.path[:], sys.dont_write_bytecode = path, bytecode


def _forget(top: str, root: Path) -> None:
    """Drop modules of this name that were imported from another folder."""
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
    """Return the files of all imported modules below the folder, except installed ones and those of Slipway."""
    found = {}
    for module in list(sys.modules.values()):
        origin = getattr(module, "__file__", None)
        if not isinstance(origin, str) or not origin.endswith(".py") or module.__name__.split(".")[0] == "slipway":
            continue
        path = Path(origin).resolve()
        # torch.ops has the file name _ops.py, relative, which does not exist in the current folder.
        if path.is_relative_to(root) and not _is_installed(path) and path.is_file():
            found[path.relative_to(root).as_posix()] = path
    return found


def _is_installed(path: Path) -> bool:
    standard_library = Path(ast.__file__).resolve().parent
    package = Path(__file__).resolve().parents[1]
    inside = path.is_relative_to(standard_library) or path.is_relative_to(package)
    return inside or any(part in _INSTALLED for part in path.parts)
