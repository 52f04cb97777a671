"""CompressionPlugin: what a cluster offers to make models smaller. Generated from a plugin's own code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Image, Model, Open

ModelState = Literal["module", "onnx"]


class PluginNeeds(Model):
    """What a plugin cannot run without."""

    data: bool = False
    """Data to calibrate or fine-tune with (spec.compression.data)."""


class CompressionPluginSpec(Model):
    """How a plugin is called and what it takes and gives."""

    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]*$", max_length=64)]
    """The plugin's version; part of every step's digest."""
    description: Annotated[str, Field(max_length=1024)] = ""
    """What it does, in a sentence."""
    entry_point: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """Its name in the entry-point group slipway.plugins of the image."""
    image: Image | None = None
    """The image that holds it. Absent: the operator's runtime image."""
    consumes: ModelState
    """The state of the model that it takes."""
    produces: ModelState
    """The state of the model that it gives."""
    conversion: bool = False
    """It changes the state and nothing else, so it may be inserted where two steps do not meet."""
    needs: PluginNeeds = Field(default_factory=PluginNeeds)
    """What it cannot run without."""
    parameters: Open = Field(default_factory=dict)
    """JSON Schema (2020-12) of its parameters."""


class CompressionPlugin(Model):
    """A step that makes a model smaller or converts it, as ModelDeployments may name it."""

    spec: CompressionPluginSpec
    """What the plugin is."""
