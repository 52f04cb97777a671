"""Validation of one object of a file: the rules of the API server, and common mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any

from pydantic import ValidationError

from slipway.api.base import Model
from slipway.api.crds import NAME_RULE, RESOURCES, Resource
from slipway.api.kinds import API_VERSION, GROUP, STEP, Object
from slipway.api.reading import read_written
from slipway.api.schema import Schema, structural
from slipway.manifests.files import Place, Problem
from slipway.manifests.nodes import Document, Spot, Step, is_octal
from slipway.manifests.validation_messages import field_errors, find_nearest, format_value, path_text

OURS: Mapping[str, Resource] = {one.kind.kind: one for one in RESOURCES if one.kind != STEP}
"""Kinds that users write."""
CLUSTER_WIDE = frozenset(
    {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass"}
    | {"PriorityClass", "RuntimeClass", "Node", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"}
)
"""Other cluster-scoped kinds that repositories often hold beside ours."""
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_TEXTS = ("name", "generateName", "namespace", "uid", "resourceVersion", "creationTimestamp", "selfLink")
_METADATA = (*_TEXTS, "labels", "annotations", "finalizers", "ownerReferences", "generation", "managedFields")
_KEPT = ("name", "namespace", "labels", "annotations")
_HEAD = ("apiVersion", "kind", "metadata", "status")
MAX_FIELD_ERRORS = 50
"""Limit of one object: the search for the intended name of a misspelt field takes time."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as the API server would store it: with its namespace, and our kinds with all defaults.

    model: for our kinds only; of other kinds only apiVersion, kind and metadata are checked.
    """

    object: Object
    file: str
    spot: Spot
    model: Model | None = None

    @property
    def place(self) -> Place:
        return Place(self.file, self.spot.line, self.spot.column)

    @property
    def name(self) -> str:
        """Kind and name for messages: `TrainingJob digits`."""
        return f"{self.object['kind']} {self.object['metadata']['name']}"

    def place_of(self, path: str) -> Place:
        """Return the place of a field by its path (`spec.data[0].name`), or of the object around a missing field."""
        steps: list[Step] = []
        for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
            steps.append(int(index) if index else name)
        spot = self.spot.at(steps)
        return Place(self.file, spot.line, spot.column)


@dataclass(slots=True)
class Reader:
    """Reads documents of one file. namespace: for objects without one. forced: objects must not name another one."""

    file: str
    namespace: str
    forced: bool = False
    manifests: list[Manifest] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def read(self, document: Document) -> None:
        """Read one document. Empty ones are skipped; a kind that ends with List is replaced by its items."""
        value, spot = document
        if value is None:
            return
        if not isinstance(value, dict):
            self._report(spot, f"{format_value(value)} is not an object; start with apiVersion, kind and metadata")
            return
        kind = value.get("kind")
        if isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list):
            items = spot.at(["items"])
            for index, item in enumerate(value["items"]):
                self.read(Document(item, items.at([index])))
            return
        self._object(value, spot)

    def _object(self, value: Mapping[str, Any], spot: Spot) -> None:
        head = _find_head_error(value)
        if head is not None:
            path, what = head
            self._report(spot.at(path), what)
            return
        kind = str(value["kind"])
        if (value["apiVersion"], kind) == (API_VERSION, STEP.kind):
            what = "kind: Slipway creates Steps itself; write the TrainingJob or ModelDeployment that needs them"
            self._report(spot.at(["kind"]), what)
            return
        resource = OURS.get(kind) if str(value["apiVersion"]).startswith(f"{GROUP}/") else None
        known = len(self.problems)
        meta = self._metadata(value, spot, resource, namespaced=resource is None or resource.kind.namespaced)
        if resource is None:
            if len(self.problems) == known:
                self.manifests.append(Manifest({**value, "metadata": meta}, self.file, spot))
            return
        model = self._validate_spec(value, spot, resource.model)
        if model is None or len(self.problems) > known:
            return
        made = {"apiVersion": value["apiVersion"], "kind": kind, "metadata": meta, "spec": model.to_wire()["spec"]}
        self.manifests.append(Manifest(made, self.file, spot, model))

    # --- metadata -----------------------------------------------------------------------------------------------

    def _metadata(self, value: Mapping[str, Any], spot: Spot, resource: Resource | None, *, namespaced: bool) -> Object:
        given, at = value.get("metadata"), spot.at(["metadata"])
        if given is not None and not isinstance(given, dict):
            self._report(at, f"metadata: {format_value(given)} is not a mapping; write a mapping with name")
            return {}
        meta = {name: item for name, item in (given or {}).items() if item is not None}
        for name, item in meta.items():
            self._metadata_field(name, item, at.at([name]), strict=resource is not None)
        self._name(meta, at, resource)
        if resource is not None:
            meta = {name: meta[name] for name in _KEPT if name in meta}
        if not namespaced or value["kind"] in CLUSTER_WIDE:
            return {name: item for name, item in meta.items() if name != "namespace"}
        return {**meta, "namespace": self._namespace(meta, at)}

    def _metadata_field(self, name: str, item: Any, spot: Spot, *, strict: bool) -> None:
        if strict and name not in _METADATA and not name.startswith("deletion"):
            meant = find_nearest(name, _METADATA)
            cure = f"did you mean {meant}?" if meant else f"allowed: {', '.join(_KEPT)}"
            self._report(spot, f"metadata.{name}: unknown field; {cure}")
        elif name in _TEXTS and not isinstance(item, str):
            self._report(spot, f"metadata.{name}: {format_value(item)} is not a text{_quoted(spot)}")
        elif name in ("labels", "annotations"):
            if not isinstance(item, dict):
                self._report(spot, f"metadata.{name}: {format_value(item)} is not a mapping")
                return
            for key, text in item.items():
                if text is not None and not isinstance(text, str):
                    below = spot.at([key])
                    self._report(below, f"metadata.{name}.{key}: {format_value(text)} is not a text{_quoted(below)}")

    def _name(self, meta: Mapping[str, Any], at: Spot, resource: Resource | None) -> None:
        name = meta.get("name")
        if name is None:
            made = "generateName works with `kubectl create` only; add" if "generateName" in meta else "is missing; add"
            self._report(at, f"metadata.name: {made} metadata.name")
        elif isinstance(name, str) and resource is not None and not _NAME.fullmatch(name):
            rule = NAME_RULE.message.removeprefix("metadata.name ")
            self._report(at.at(["name"]), f"metadata.name: {format_value(name)} is not a valid name: it {rule}")

    def _namespace(self, meta: Mapping[str, Any], at: Spot) -> str:
        own = meta.get("namespace")
        if own is None or not isinstance(own, str):
            return self.namespace
        if not NAMESPACE.fullmatch(own):
            what = f"{format_value(own)} is not a valid namespace: use lower-case letters, digits and -"
            self._report(at.at(["namespace"]), f"metadata.namespace: {what}")
        elif self.forced and own != self.namespace:
            what = f"{format_value(own)} differs from -n ({self.namespace}); remove one of them"
            self._report(at.at(["namespace"]), f"metadata.namespace: {what}")
        return own

    # --- spec ---------------------------------------------------------------------------------------------------

    def _validate_spec(self, value: Mapping[str, Any], spot: Spot, model: type[Model]) -> Model | None:
        body = {name: item for name, item in value.items() if name not in _HEAD}
        self.warnings += [
            Problem(self._place(at), f"{path_text(path)}: YAML reads {at.text} as {int(at.text or '0', 8)} (octal)")
            for path, at in _iterate_spots(spot)
            if is_octal(at)
        ]
        try:
            return read_written(model, json.dumps(body))
        except ValidationError as error:
            for wrong in islice(field_errors(error, body, spot, _schema(model)), MAX_FIELD_ERRORS):
                self._report(spot.at(wrong.at), str(wrong))
        except ValueError as error:
            self._report(spot, str(error))
        return None

    def _report(self, spot: Spot, what: str) -> None:
        self.problems.append(Problem(self._place(spot), what))

    def _place(self, spot: Spot) -> Place:
        return Place(self.file, spot.line, spot.column)


def _find_head_error(value: Mapping[str, Any]) -> tuple[list[Step], str] | None:
    """Return the field and the error in apiVersion or kind; None for valid ones, and for other kinds."""
    for name in ("apiVersion", "kind"):
        if not isinstance(value.get(name), str) or not value[name]:
            wrong = f"{format_value(value[name])} is not a text" if value.get(name) is not None else "is missing"
            ours = f"{API_VERSION}" if name == "apiVersion" else f"one of {', '.join(OURS)}"
            return [name], f"{name}: {wrong}; for Slipway write {ours}"
    version, kind = str(value["apiVersion"]), str(value["kind"])
    if kind == "Kustomization":
        return ["kind"], "kind: a Kustomization is not an object of a cluster; use its folder with -f"
    if version == API_VERSION:
        if kind in OURS:
            return None
        meant = find_nearest(kind, OURS) or _find_by_short_name(kind)
        there = f"did you mean {meant}?" if meant else f"use {', '.join(OURS)}"
        return ["kind"], f"kind: {API_VERSION} has no kind {kind}; {there}"
    if version.startswith(f"{GROUP}/") or kind in OURS or find_nearest(version, [API_VERSION]):
        return ["apiVersion"], f"apiVersion: {version} is not supported; use {API_VERSION}"
    return None


def _find_by_short_name(kind: str) -> str | None:
    names = {alias: name for name, one in OURS.items() for alias in (one.short_name, one.kind.plural)}
    return names.get(kind.lower())


def _quoted(spot: Spot) -> str:
    return f'; write it in quotes: "{spot.text}"' if spot.text is not None else ""


def _iterate_spots(spot: Spot, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Spot]]:
    yield path, spot
    for step, below in spot.below.items():
        yield from _iterate_spots(below, (*path, step))


@cache
def _schema(model: type[Model]) -> Schema:
    return structural(model)
