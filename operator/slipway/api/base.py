"""Base of all API models: camelCase on the wire, lenient reads, rules written once.

Reads are lenient (unknown fields are ignored, because a newer CRD may have more). Input of users is checked strictly,
by the API server, or by `reading.read_written`, which decides as the server does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between fields, as CEL for the API server and as a check on the parsed model.

    cel: true if the object is valid. field: the path below the model that the error names, such as `.steps`.
    check: the same in Python; None for a transition rule (`oldSelf`), which only the API server can check.
    """

    cel: str
    message: str
    check: Callable[[Any], bool] | None = None
    field: str | None = None

    def schema(self) -> dict[str, str]:
        rule = {"rule": self.cel, "message": self.message}
        if self.field:
            rule["fieldPath"] = self.field
        return rule


def exactly_one(*fields: str) -> Rule:
    """Return the rule that exactly one of the (optional) fields is set. Names are the Python ones."""
    wire = [to_camel(name) for name in fields]
    cel = "[" + ", ".join(f"has(self.{name})" for name in wire) + "].filter(x, x).size() == 1"
    return Rule(
        cel,
        f"exactly one of {', '.join(wire)} must be set",
        lambda m: sum(getattr(m, name) is not None for name in fields) == 1,
    )


def immutable(field: str, *, required: bool = False) -> Rule:
    """Return the rule that the field keeps the value it was created with, absence included."""
    name = to_camel(field)
    message = f"{name} is immutable; to change it, delete the resource and create it again"
    cel = f"self.{name} == oldSelf.{name}"
    if not required:
        cel = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {cel})"
    return Rule(cel, message, field=f".{name}")


def broken_transitions(rules: Iterable[Rule], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return the transition rules that an edit breaks, as the API server would: field -> message of its rule.

    before, after: wire forms, with defaults on both sides.
    """
    frozen = {rule.field.removeprefix("."): rule.message for rule in rules if rule.check is None and rule.field}
    return {field: message for field, message in frozen.items() if before.get(field) != after.get(field)}


@dataclass(frozen=True, slots=True)
class UniqueBy:
    """No two items of a list share this field (its name on the wire); server-side apply merges the items by it."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        merged = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
        return {**handler(core), **merged}

    def _check(self, items: Sequence[Model]) -> Sequence[Model]:
        seen: set[Any] = set()
        for item in items:
            value = item.to_wire().get(self.key)
            if value in seen:
                raise ValueError(f"two items have the {self.key} {value!r}; give each its own")
            seen.add(value)
        return items


class Model(BaseModel):
    """Base of all API models. Fields are snake_case here and camelCase on the wire; values are frozen.

    rules: checked by pydantic after the fields, and carried into the CRD as x-kubernetes-validations.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=False,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_the_rules(self) -> Self:
        for rule in self.rules:
            if rule.check is not None and not rule.check(self):
                raise ValueError(f"{(rule.field or '').lstrip('.')}: {rule.message}".removeprefix(": "))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        if cls.rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [rule.schema() for rule in cls.rules]
        return schema

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready, camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_content(self, *, exclude_defaults: bool = False) -> dict[str, Any]:
        """Return the wire form with each Reference replaced by its digest: content instead of locations.

        Only typed references are replaced. `Open` values, such as parameters of plugins, stay as they are to the last
        byte, although they may look like references.
        """
        return self.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_defaults=exclude_defaults, context=_BY_CONTENT
        )


_BY_CONTENT = {"by": "content"}


# --- Scalars -----------------------------------------------------------------------------------------------------

DURATION = re.compile(r"^(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?$")

Duration = Annotated[
    str, Field(pattern=r"^([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$", min_length=2, max_length=31)
]
"""A length of time such as `7d`, `12h`, `10m` or `90s`, or several of these in that order."""


def timedelta_of(duration: str) -> timedelta:
    """Return the duration as a timedelta. Raises ValueError if the text is not a Duration."""
    match = DURATION.match(duration)
    if not match or not duration:
        raise ValueError(f"{duration!r} is not a duration such as 90s, 10m, 12h or 7d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN, max_length=71)]
"""`sha256:` and 64 lower-case hexadecimal digits."""


class Reference(Model):
    """Base of models that name content by their field `digest`, and its location by other fields."""

    if TYPE_CHECKING:
        digest: str

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        return self.digest if info.context is _BY_CONTENT else handler(self)


Image = Annotated[str, Field(pattern=r"^[!-~]+$", min_length=1, max_length=512)]
"""An image's name, best by digest (`registry/repository@sha256:...`)."""

DnsLabel = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
"""A name that starts with a letter: fit for a Service and for a pod's host name (RFC 1035)."""

ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
"""The name of any Kubernetes object (RFC 1123 subdomain)."""


@lru_cache(maxsize=8192)  # a status has up to 200 times, which every reconciliation writes again
def wire_time(moment: datetime) -> str:
    """Return the time as metav1.Time writes it: RFC 3339, to the second, in UTC. moment: aware."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(wire_time, return_type=str, when_used="json")]
"""A time, to the second and in UTC on the wire (RFC 3339)."""

MAX_COUNT = 2**53 - 1
"""The largest integer that every reader of JSON holds exactly (RFC 8259, section 6); the API server takes 2**63 - 1."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
"""A number that a pod counted."""


Rank = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A global rank of torch, or the completion index of a pod."""

ExitCode = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""The exit code of a process, as the kubelet reports it."""

Metrics = Annotated[
    dict[Annotated[str, Field(max_length=48)], Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=16)
]
"""Measurements of a pod, by name. JSON has no NaN and no infinity: they would become null, which deletes in a patch."""

MAX_DEPTH = 32
"""Limit of an Open value. A CRD cannot limit depth, so the planner refuses what the API server accepts."""


def _shallow(value: Mapping[str, Any]) -> Mapping[str, Any]:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        children = (child for one in level for child in (one.values() if isinstance(one, Mapping) else one))
        level = [child for child in children if isinstance(child, list | Mapping)]
        if not level:
            return value
    raise ValueError(f"must not be nested more than {MAX_DEPTH} levels deep")


Open = Annotated[
    Mapping[str, Any],
    AfterValidator(_shallow),
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""An object whose fields a plugin, a factory or torch.optim defines. Nested at most MAX_DEPTH levels."""


def digest_of(value: object) -> str:
    """`sha256:<hex>` of a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as JSON can spell it, is text like any other here.
    return f"sha256:{sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def short(digest: str, length: int = 10) -> str:
    """The first hexadecimal digits: for names."""
    return digest.removeprefix("sha256:")[:length]
