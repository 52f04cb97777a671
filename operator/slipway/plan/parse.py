"""From an object as the API server has it to its typed model."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from slipway.api.base import Model
from slipway.api.errors import SpecError
from slipway.api.kinds import Object

M = TypeVar("M", bound=Model)


def parsed(model: type[M], obj: Object) -> M:
    """The object as `model`, which has a spec and may have a status.

    Raises SpecError for a spec that cannot be read (an older CRD let it in), and ValidationError for a status: that
    is never guessed at, for it is what says what was done already.
    """
    try:
        return model.model_validate({part: obj[part] for part in ("spec", "status") if obj.get(part)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["loc"] and first["loc"][0] == "status":
            raise
        raise SpecError(_path(first["loc"]), first["msg"].removeprefix("Value error, "), "correct the field") from error


def _path(loc: tuple[int | str, ...]) -> str:
    """`("spec", "data", 0, "name")` -> `spec.data[0].name`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
