"""From what -f names to texts: files, folders, kustomizations that only list, and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway.cli.manifests.problems import Place, Problem

SUFFIXES = (".yaml", ".yml", ".json")
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One text. generated: objects that no file holds, as kustomize makes them; then there is no text."""

    file: str
    text: str = ""
    namespace: str | None = None
    """Of all its objects, whatever they say: a kustomization's."""


@dataclass(slots=True)
class Found:
    """What -f led to; a file that was named twice is read once."""

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def add(self, path: Path, namespace: str | None = None) -> None:
        if path.resolve() in self._seen:
            return
        self._seen.add(path.resolve())
        text = read_text(path)
        if isinstance(text, Problem):
            self.problems.append(text)
        else:
            self.sources.append(Source(str(path), text, namespace))

    def blame(self, file: str | Path, what: str, *, absent: bool = False) -> None:
        self.problems.append(Problem(Place(str(file)), what, absent))


def find_sources(names: Sequence[str], *, recursive: bool = False) -> Found:
    """In the order in which they are named; the files of a folder by name. Never raises for what a user can cause."""
    found = Found()
    for name in dict.fromkeys(names):
        if name == STDIN:
            found.sources.append(Source("<stdin>", sys.stdin.read()))
        elif name.startswith(("http://", "https://")):
            found.blame(name, f"only files are read; write `curl -sL {name} | slipway ... -f -`")
        else:
            _add(found, Path(name), recursive=recursive)
    return found


def _add(found: Found, path: Path, *, recursive: bool) -> None:
    if not path.is_dir():
        found.add(path)
        return
    if (kustomization := kustomization_in(path)) is not None:
        from slipway.cli.manifests.kustomization import add_kustomization

        add_kustomization(found, kustomization)
        return
    try:
        files = sorted(_files(path, recursive=recursive))
    except OSError as error:
        found.blame(path, f"cannot be read: {_said(error)}")
        return
    for file in files:
        found.add(file)
    if not files:
        more = "" if recursive else "; with -R the folders below are read too"
        found.blame(path, f"holds no file that ends with {', '.join(SUFFIXES)}{more}")


def kustomization_in(folder: Path) -> Path | None:
    return next((path for name in KUSTOMIZATIONS if (path := folder / name).is_file()), None)


def _files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            if recursive:
                yield from _files(path, recursive=True)
        elif path.suffix in SUFFIXES:
            yield path


def read_text(path: Path) -> str | Problem:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return Problem(Place(str(path)), "there is no such file or folder", absent=True)
    except UnicodeDecodeError as error:
        return Problem(Place(str(path)), f"is no text in UTF-8 (byte {error.start}); convert it")
    except OSError as error:
        return Problem(Place(str(path)), f"cannot be read: {_said(error)}")


def _said(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
