"""Validators of a spec: the API server under strict validation, and the models as `read_written` reads them."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from slipway.api.base import Model
from slipway.api.kinds import Kind
from slipway.api.reading import read_written
from support.apiserver import ApiServer
from support.places import Json, text
from support.refusals import RESOURCE_OF

STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


def collection(kind: Kind, namespace: str) -> str:
    where = f"/namespaces/{namespace}" if kind.namespaced else ""
    group = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    return f"{group}{where}/{kind.plural}"


def validate_on_server(server: ApiServer, namespace: str, kind: str, spec: Any, name: str = "one") -> tuple[bool, Json]:
    """Return True if it accepts the object, and its answer; nothing is stored."""
    status, answer = _created(server, namespace, kind, spec, name)
    # The scale subresource reads its number by itself and takes no 1.0 in JSON; clients write that as 1, from YAML too.
    if "accessor error" in answer.get("message", ""):
        status, answer = _created(server, namespace, kind, _without_dots(spec), name)
    assert status < 500, answer
    return status < 300, answer


def _created(server: ApiServer, namespace: str, kind: str, spec: Any, name: str) -> tuple[int, Json]:
    resource = RESOURCE_OF[kind].kind
    obj = {"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return server.request("POST", collection(resource, namespace), obj, **STRICT)


def _without_dots(value: Any) -> Any:
    """Return whole numbers as Go's encoding/json writes a float64."""

    def number(text: str) -> float:
        value = float(text)
        return int(value) if value.is_integer() else value

    return json.loads(json.dumps(value), parse_float=number)


def validate_by_model(kind: str, spec: Any) -> Model | list[str]:
    """Return the model, or the path of each error, down to the field that it names."""
    try:
        return read_written(RESOURCE_OF[kind].model, json.dumps({"spec": spec}))
    except ValidationError as error:
        return [named(one["loc"], one["msg"]) for one in error.errors(include_url=False, include_input=False)]


def named(loc: tuple[int | str, ...], message: str) -> str:
    """A rule's message starts with the field that it blames. Of a union, the type is no part of the path."""
    while loc and loc[-1] in ("int", "str"):
        loc = loc[:-1]
    field = message.removeprefix("Value error, ").partition(": ")
    blamed = (*loc, *field[0].split(".")) if field[1] and " " not in field[0] else loc
    return text(blamed)


def fields_in(refusal: Json) -> list[str]:
    """The fields that a refusal of the API server names; of a number that is not whole with a dot before it."""
    causes = [cause.get("field", "").removeprefix(".") for cause in refusal.get("details", {}).get("causes", ())]
    return [*causes, *re.findall(r'unknown field "(.+?)"(?:, |$)', refusal["message"])]


def same_branch(one: str, other: str) -> bool:
    """Return True if two paths name one field, or one of them a field further down."""
    return bool(one and other) and (one.startswith(other) or other.startswith(one))
