"""Manifests from files: typed objects, or every error of every file at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from slipway.api.kinds import DEFAULT_NAMESPACE, Object
from slipway.manifests.problems import BadManifests, Place, Problem
from slipway.manifests.sources import find_sources
from slipway.manifests.validation import Manifest, Reader
from slipway.manifests.yamltree import Fault, documents

__all__ = ["BadManifests", "Manifest", "Manifests", "Place", "Problem", "read_manifests"]


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
