"""A plugin that does what a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from slipway.api.artifacts import State
from slipway.sdk import Artifact, Context
from slipway.sdk.manifest import ONNX_FILE

Run = Callable[[Artifact, Any, Context], Any]


class Params(BaseModel):
    share: float = Field(default=0.5, gt=0, lt=1)


class Copying:
    """Takes an ONNX model and leaves it as it is, or does what a test says."""

    name, version, description = "copying", "1.2.3", "Copies."
    consumes = produces = State.ONNX
    conversion = needs_data = False
    params = Params

    def __init__(self, does: Run | None = None) -> None:
        self.run: Run = does or (lambda model, _, context: context.write_onnx(model.file(ONNX_FILE)))
