"""A kustomization that only lists: resources, a namespace, ConfigMaps of files under names that stay.

Anything more is kustomize's own: it is named, and so is the command that does it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.cli.manifests.problems import Place, Problem
from slipway.cli.manifests.sources import Found, Source, kustomization_in, read_text
from slipway.cli.manifests.yamltree import Document, documents

_HEAD = ("apiVersion", "kind", "metadata")
_DONE = (*_HEAD, "resources", "namespace", "configMapGenerator", "generatorOptions")


def add_kustomization(found: Found, path: Path, namespace: str | None = None, above: tuple[Path, ...] = ()) -> None:
    """Add what it lists. above: the kustomizations that led to it, outermost first."""
    if path.resolve() in above:
        circle = " -> ".join(str(one) for one in (*above[above.index(path.resolve()) :], path.resolve()))
        found.blame(path, f"kustomizations list each other: {circle}; take one out")
        return
    body = _read(found, path)
    if body is None:
        return
    value, spot = body
    build = f"`kustomize build {path.parent} | slipway ... -f -`"
    for name in value:
        if name not in _DONE:
            at = spot.at([name])
            what = f"{name}: only resources, namespace and configMapGenerator are read; write {build}"
            found.problems.append(Problem(Place(str(path), at.line, at.column), what))
    namespace = namespace or value.get("namespace")
    for index, entry in enumerate(_listed(value.get("resources"))):
        at = spot.at(["resources", index])
        _add_resource(found, path, entry, Place(str(path), at.line, at.column), namespace, above, build)
    _add_config_maps(found, path, value, namespace, build)


def _read(found: Found, path: Path) -> Document | None:
    text = read_text(path)
    if isinstance(text, Problem):
        found.problems.append(text)
        return None
    read, faults = documents(text)
    found.problems += [Problem(Place(str(path), fault.line, fault.column), fault.what) for fault in faults]
    if faults:
        return None
    if len(read) != 1 or not isinstance(read[0].value, dict):
        found.blame(path, "a kustomization is one mapping, with resources")
        return None
    return read[0]


def _add_resource(
    found: Found, path: Path, entry: Any, place: Place, namespace: str | None, above: tuple[Path, ...], build: str
) -> None:
    if not isinstance(entry, str):
        found.problems.append(Problem(place, "resources: each is the path of a file or folder"))
        return
    target = path.parent / entry
    if "://" in entry or entry.startswith("github.com/"):
        found.problems.append(Problem(place, f"resources: {entry} lies elsewhere; write {build}"))
    elif target.is_dir():
        inner = kustomization_in(target)
        if inner is None:
            found.problems.append(
                Problem(place, f"resources: {entry} is a folder without a kustomization; name its files")
            )
        else:
            add_kustomization(found, inner, namespace, (*above, path.resolve()))
    elif not target.exists():
        found.problems.append(Problem(place, f"resources: there is no {entry} beside it", absent=True))
    else:
        found.add(target, namespace)


def _add_config_maps(found: Found, path: Path, value: Mapping[str, Any], namespace: str | None, build: str) -> None:
    generators = _listed(value.get("configMapGenerator"))
    if not generators:
        return
    common = value.get("generatorOptions") or {}
    for generator in generators:
        options = {**common, **generator.get("options", {})} if isinstance(generator, dict) else {}
        if not isinstance(generator, dict) or set(generator) - {"name", "namespace", "files", "literals", "options"}:
            found.blame(path, f"configMapGenerator: only name, namespace, files and literals are read; write {build}")
        elif options != {"disableNameSuffixHash": True}:
            what = "without generatorOptions {disableNameSuffixHash: true}, and nothing else there, kustomize names it"
            found.blame(path, f"configMapGenerator {generator.get('name')}: {what}; write {build}")
        else:
            _add_config_map(found, path, generator, generator.get("namespace") or namespace)


def _add_config_map(found: Found, path: Path, generator: Mapping[str, Any], namespace: str | None) -> None:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for entry in _listed(generator.get("files")):
        key, _, file = str(entry).rpartition("=")
        source = path.parent / file
        try:
            content = source.read_bytes()
        except OSError as error:
            found.blame(path, f"configMapGenerator {generator.get('name')}: {source}: {error.strerror}", absent=True)
            continue
        try:
            data[key or source.name] = content.decode()
        except UnicodeDecodeError:
            binary[key or source.name] = base64.b64encode(content).decode()
    for entry in _listed(generator.get("literals")):
        key, _, literal = str(entry).partition("=")
        data[key] = literal
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator.get("name")}}
    parts = {name: part for name, part in (("data", data), ("binaryData", binary)) if part}
    found.sources.append(Source(str(path), json.dumps({**body, **parts}), namespace))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
