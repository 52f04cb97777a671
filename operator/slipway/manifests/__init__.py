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
    decoded,
    read_stdin,
    read_text,
    unreadable_problem,
)
from slipway.manifests.kustomization import kustomization_in, read_kustomization
from slipway.manifests.nodes import Document, Fault
from slipway.manifests.validation import Manifest, Reader

__all__ = ["BadManifests", "Manifest", "Manifests", "Place", "Problem", "read_manifests"]


SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MAX_FILES, MAX_TOTAL_BYTES, MAX_ENTRIES = 2_000, 100_000_000, 200_000
"""Limits of one command: files, their bytes, and entries of the folders in which they are looked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """One text, or what kustomize made: documents with the places where they come from."""

    file: str
    text: str = ""
    documents: tuple[tuple[str, Document], ...] | None = None
    """Each with its file."""


@dataclass(slots=True)
class SourceSet:
    """The files that -f leads to; a file that is named twice is read once."""

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
    """More than one command reads."""


def find_sources(names: Sequence[str], *, recursive: bool = False) -> SourceSet:
    """In the order in which they are named; the files of a folder by name. Never raises for what a user can cause."""
    found = SourceSet()
    for name in dict.fromkeys(names):
        if name == STDIN:
            _add_stdin(found)
        elif name.startswith(("http://", "https://")):
            found.report(name, f"only files are read; write `curl -sL {name} | slipway ... -f -`")
        else:
            try:
                _add(found, Path(name), recursive=recursive)
            except TooMuchError:
                limit = f"{MAX_FILES:,} files or {MAX_TOTAL_BYTES / 1e6:g} MB"
                found.report(name, f"holds more than the {limit} that one command reads; name the files that you mean")
    return found


def _add_stdin(found: SourceSet) -> None:
    try:
        found.sources.append(Source("<stdin>", decoded(read_stdin(MAX_BYTES))))
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
        more = "" if recursive else "; with -R the folders below are read too"
        found.report(path, f"holds no file that ends with {', '.join(SUFFIXES)}{more}")


def _files(top: Path, *, recursive: bool) -> Iterator[Path]:
    """Links to folders are not followed, as kubectl does not: they may lead back."""
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
    """In the order of the files. warnings: what is read otherwise than it was probably meant."""

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
    """Read what -f names: files, folders, kustomizations, `-` for standard input.

    namespace: what -n names; objects may name no other. default_namespace: of objects that name none, without -n.
    Raises BadManifests with all that is wrong, in all of them.
    """
    found = find_sources(names, recursive=recursive)
    problems, items, warnings = list(found.problems), [], []
    for source in found.sources:
        reader = Reader(source.file, namespace or default_namespace, forced=namespace is not None)
        faults: Sequence[Fault] = ()
        if source.documents is None:
            read, faults = documents(source.text)
            made = [(source.file, document) for document in read]
        else:
            made = list(source.documents)
        for file, document in made:
            reader.file = file
            reader.read(document)
        problems += [Problem(Place(source.file, fault.line, fault.column), fault.what) for fault in faults]
        problems += reader.problems
        items += reader.manifests
        warnings += reader.warnings
    problems += _namesakes(items)
    if not items and not problems:
        problems = [Problem(Place(", ".join(names)), "holds no object")]
    if problems:
        raise BadManifests(problems)
    return Manifests(tuple(items), tuple(warnings))


def _namesakes(items: Sequence[Manifest]) -> list[Problem]:
    first: dict[tuple[str, str, str, str], Manifest] = {}
    problems = []
    for item in items:
        obj, meta = item.object, item.object["metadata"]
        group = obj["apiVersion"].partition("/")[0] if "/" in obj["apiVersion"] else ""
        other = first.setdefault((group, obj["kind"], meta.get("namespace", ""), str(meta.get("name"))), item)
        if other is not item:
            what = f"metadata.name: {item.name} was read from {other.place} already; rename one or take it out"
            problems.append(Problem(item.place_of("metadata.name"), what))
    return problems
