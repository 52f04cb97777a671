"""Manifests from files: typed objects, or every error of every file at once.

The names that -f takes lead to texts (files, folders, kustomizations, standard input), each within a limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from slipway.api.kinds import DEFAULT_NAMESPACE, Object
from slipway.manifests.documents import documents
from slipway.manifests.files import (
    MAX_BYTES,
    BadManifests,
    Place,
    Problem,
    UnreadableError,
    decode_text,
    read_stdin,
    read_text,
    unreadable_problem,
)
from slipway.manifests.kustomization import kustomization_in, read_kustomization
from slipway.manifests.nodes import Document, SyntaxProblem
from slipway.manifests.validation import Manifest, Reader

__all__ = ["BadManifests", "Manifest", "Manifests", "Place", "Problem", "read_manifests"]


SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MAX_FILES, MAX_TOTAL_BYTES, MAX_ENTRIES = 2_000, 100_000_000, 200_000
"""Limits of one command: files, their bytes, and entries of folders that are searched for files."""


@dataclass(frozen=True, slots=True)
class Source:
    """One text, or the documents that kustomize built, with the files that they come from."""

    file: str
    text: str = ""
    documents: tuple[tuple[str, Document], ...] | None = None
    """Documents with their files; None for a text."""


@dataclass(slots=True)
class SourceSet:
    """The texts that -f names; a file that is named twice is read once."""

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _bytes: int = 0

    def add(self, path: Path) -> None:
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        text = read_text(path)
        if isinstance(text, Problem):
            self.problems.append(text)
            return
        self._bytes += len(text)
        if len(self._seen) > MAX_FILES or self._bytes > MAX_TOTAL_BYTES:
            raise TooMuchError
        self.sources.append(Source(str(path), text))

    def report(self, file: str | Path, what: str) -> None:
        self.problems.append(Problem(Place(str(file)), what))


class TooMuchError(Exception):
    """The limits of one command are exceeded."""


def find_sources(names: Sequence[str], *, recursive: bool = False) -> SourceSet:
    """Return the texts in the order of the names, the files of a folder by name. Problems are returned, not raised."""
    found = SourceSet()
    for name in dict.fromkeys(names):
        if name == STDIN:
            _read_stdin(found)
        elif name.startswith(("http://", "https://")):
            found.report(name, f"URLs are not read; run `curl -sL {name} | slipway ... -f -`")
        else:
            try:
                _add(found, Path(name), recursive=recursive)
            except TooMuchError:
                limit = f"{MAX_FILES:,} files or {MAX_TOTAL_BYTES / 1e6:g} MB"
                found.report(name, f"more than {limit}, the limit of one command; name single files")
    return found


def _read_stdin(found: SourceSet) -> None:
    try:
        found.sources.append(Source("<stdin>", decode_text(read_stdin(MAX_BYTES))))
    except UnreadableError as error:
        found.problems.append(unreadable_problem("<stdin>", error))


def _add(found: SourceSet, path: Path, *, recursive: bool) -> None:
    if not path.is_dir():
        found.add(path)
        return
    if (kustomization := kustomization_in(path)) is not None:
        objects, problems = read_kustomization(kustomization)
        found.problems += problems
        if objects:
            found.sources.append(Source(str(kustomization), documents=objects))
        return
    try:
        files = sorted(_files(path, recursive=recursive))
    except OSError as error:
        found.report(path, f"cannot be read: {(error.strerror or str(error)).lower()}")
        return
    for file in files:
        found.add(file)
    if not files:
        more = "" if recursive else "; use -R to read subfolders as well"
        found.report(path, f"no file ends with {', '.join(SUFFIXES)}{more}")


def _files(top: Path, *, recursive: bool) -> Iterator[Path]:
    """Yield the manifests of a folder. Links to folders are not followed, as in kubectl: they may form a circle."""
    left, entries, files = [top], 0, 0
    while left:
        with os.scandir(left.pop()) as folder:
            for entry in folder:
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    if recursive:
                        left.append(Path(entry.path))
                elif Path(entry.name).suffix in SUFFIXES and not entry.is_dir():
                    files += 1
                    yield Path(entry.path)
                if entries > MAX_ENTRIES or files > MAX_FILES:
                    raise TooMuchError


class Manifests(NamedTuple):
    """Manifests in the order of the files. warnings: values that are probably read in another way than intended."""

    items: tuple[Manifest, ...]
    warnings: tuple[Problem, ...] = ()

    @property
    def objects(self) -> list[Object]:
        return [manifest.object for manifest in self.items]


def read_manifests(
    names: Sequence[str],
    *,
    namespace: str | None = None,
    default_namespace: str = DEFAULT_NAMESPACE,
    recursive: bool = False,
) -> Manifests:
    """Read the files, folders and kustomizations that -f names; `-` is standard input.

    namespace: value of -n; objects must not name another one. default_namespace: for objects without one, if -n is not
    given. Raises BadManifests with all problems of all files.
    """
    found = find_sources(names, recursive=recursive)
    problems, items, warnings = list(found.problems), [], []
    for source in found.sources:
        reader = Reader(source.file, namespace or default_namespace, forced=namespace is not None)
        syntax_problems: Sequence[SyntaxProblem] = ()
        if source.documents is None:
            read, syntax_problems = documents(source.text)
            made = [(source.file, document) for document in read]
        else:
            made = list(source.documents)
        for file, document in made:
            reader.file = file
            reader.read(document)
        problems += [Problem(Place(source.file, one.line, one.column), one.what) for one in syntax_problems]
        problems += reader.problems
        items += reader.manifests
        warnings += reader.warnings
    problems += _find_duplicates(items)
    if not items and not problems:
        problems = [Problem(Place(", ".join(names)), "contains no object; check the file names")]
    if problems:
        raise BadManifests(problems)
    return Manifests(tuple(items), tuple(warnings))


def _find_duplicates(items: Sequence[Manifest]) -> list[Problem]:
    first: dict[tuple[str, str, str, str], Manifest] = {}
    problems = []
    for item in items:
        obj, meta = item.object, item.object["metadata"]
        group = obj["apiVersion"].partition("/")[0] if "/" in obj["apiVersion"] else ""
        other = first.setdefault((group, obj["kind"], meta.get("namespace", ""), str(meta.get("name"))), item)
        if other is not item:
            what = f"metadata.name: {item.name} is already defined at {other.place}; rename or remove one"
            problems.append(Problem(item.place_of("metadata.name"), what))
    return problems
