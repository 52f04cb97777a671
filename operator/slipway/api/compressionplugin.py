"""CompressionPlugin: a step that ModelDeployments may use, generated from the plugin's own code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Image, Model, Open

ModelState = Literal["module", "onnx"]


class PluginNeeds(Model):
    """Inputs that the plugin cannot run without."""

    data: bool = False
    """If true, the plugin needs data for calibration or fine-tuning: spec.compression.data of the ModelDeployment, or
    the train data of its TrainingJob. Default: false."""


class CompressionPluginSpec(Model):
    """Declaration of a plugin. `slipway plugin manifest` prints it."""

    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]*$", max_length=64)]
    """Version of the plugin. It is part of every step's digest, so a new version runs the steps again; a pod whose
    image holds another version fails."""
    description: Annotated[str, Field(max_length=1024)] = ""
    """Description of the plugin for users, in a sentence. Default: empty."""
    entry_point: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """Name of the plugin in the Python entry-point group slipway.plugins of the image."""
    image: Image | None = None
    """Container image that contains the plugin. Default: the operator's runtime image."""
    consumes: ModelState
    """Format of the model that the plugin takes: module (torch) or onnx."""
    produces: ModelState
    """Format of the model that the plugin returns: module (torch) or onnx."""
    conversion: bool = False
    """If true, the plugin changes the format of a model and nothing else, so it may be inserted between two steps whose
    formats differ. Default: false."""
    needs: PluginNeeds = Field(default_factory=PluginNeeds)
    """Inputs that the plugin cannot run without. Default: none."""
    parameters: Open = Field(default_factory=dict)
    """JSON Schema (draft 2020-12) of the plugin's parameters. The operator validates spec.compression.steps[].params
    with it before a pod starts. Default: no schema, so only the plugin itself validates them."""


class CompressionPlugin(Model):
    """Declares a plugin that makes a model smaller or converts it. ModelDeployments name it in their compression
    steps."""

    spec: CompressionPluginSpec
    """Declaration of the plugin."""
