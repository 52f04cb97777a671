"""The plugins to run, in order: the steps of the spec, and conversions between models of different states.

The order is checked by the state of the model (module, onnx), never by names of plugins, so new plugins need no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from slipway.api.artifacts import State
from slipway.api.compressionplugin import CompressionPlugin, CompressionPluginSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import COMPRESSION_PLUGIN
from slipway.api.modeldeployment import CompressionStep
from slipway.plan.deployment.params import check_params, check_sizes
from slipway.plan.observation import ClusterView
from slipway.plan.references import NotYet

STEPS, CONVERSION = "spec.compression.steps", "spec.compression.conversion"
SERVED = State.ONNX
"""The state of a model that can be evaluated, packaged and served."""

SHIPPED_CONVERSION = "export-onnx"
"""Name of the conversion that comes with the operator."""

Plugins = Mapping[str, CompressionPluginSpec | None]
"""Plugins by name; None for one whose object cannot be read."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The plugins of the cluster, and the settings that choose a conversion.

    conversion: the name in the spec; None for the operator's own. runtime_image: that of the operator.
    """

    plugins: Plugins
    conversion: str | None = None
    runtime_image: str = ""


@dataclass(frozen=True, slots=True)
class PluginRun:
    """One plugin to run.

    role: the name of its Step. label: its name in messages. conversion: True for an inserted one. reason: why it was
    inserted; empty for a step of the spec.
    """

    role: str
    label: str
    plugin: CompressionPluginSpec
    params: Mapping[str, Any]
    conversion: bool = False
    reason: str = ""


def plugins_in(view: ClusterView) -> Plugins:
    """Return all CompressionPlugins of the cluster."""
    return {obj["metadata"]["name"]: _spec_of(obj) for obj in view.select(COMPRESSION_PLUGIN, "", {})}


def _spec_of(obj: Mapping[str, Any]) -> CompressionPluginSpec | None:
    try:
        return CompressionPlugin.model_validate({"spec": obj.get("spec")}).spec
    except ValidationError:
        return None


def order_plugins(steps: tuple[CompressionStep, ...], state: State, offer: Offer, *, has_data: bool) -> list[PluginRun]:
    """Return the steps from a model of that state to one that can be served.

    has_data: True if there is data for calibration or fine-tuning. Raises SpecError for an invalid spec (IllegalOrder,
    InvalidParams, DataMissing, PluginInvalid, ConversionNotChosen), and NotYet (PluginNotFound) only if the rest is
    valid.
    """
    plugins = offer.plugins
    check_sizes(STEPS, [step.params for step in steps])
    missing = [step.plugin for step in steps if step.plugin not in plugins]
    known = [(index, step, _usable(index, step, plugins)) for index, step in enumerate(steps) if step.plugin in plugins]
    for index, step, plugin in known:
        check_params(f"{STEPS}[{index}].params", step.plugin, step.params, plugin.parameters)
        if plugin.needs.data and not has_data:
            problem = f"is missing, and {STEPS}[{index}] ({step.plugin}) needs data"
            raise SpecError("spec.compression.data", problem, "name the data to use", reason="DataMissing")
    if missing:
        raise NotYet("PluginNotFound", f'{STEPS}: there is no CompressionPlugin "{missing[0]}"; apply its manifest')
    return _ordered(known, state, offer)


def _usable(index: int, step: CompressionStep, plugins: Plugins) -> CompressionPluginSpec:
    plugin = plugins[step.plugin]
    if plugin is None:
        problem = f"CompressionPlugin {step.plugin} cannot be read"
        raise SpecError(f"{STEPS}[{index}].plugin", problem, "apply its manifest again", reason="PluginInvalid")
    return plugin


def _ordered(
    known: list[tuple[int, CompressionStep, CompressionPluginSpec]], state: State, offer: Offer
) -> list[PluginRun]:
    planned: list[PluginRun] = []
    left_by, gives = "the model", "the model"
    for index, step, plugin in known:
        needed = State(plugin.consumes)
        if needed is not state:
            if state is SERVED:
                raise SpecError(
                    f"{STEPS}[{index}]",
                    f"{step.plugin} takes a model of state {needed}, and {left_by} gives {state}",
                    f"put {step.plugin} before {left_by}" if planned else "start from a model of that state",
                    reason="IllegalOrder",
                )
            reason = f"inserted: {gives} is {state}, and {plugin.entry_point} takes {needed}"
            planned.append(conversion(state, offer, role="convert", reason=reason))
        role = f"step-{index}-{step.plugin.replace('.', '-')}"[:63].rstrip("-")
        planned.append(PluginRun(role, f"{STEPS}[{index}] ({step.plugin} {plugin.version})", plugin, step.params))
        state, left_by = State(plugin.produces), f"{step.plugin} ({STEPS}[{index}])"
        gives = f"what {plugin.entry_point} gives"
    if state is not SERVED:
        reason = f"inserted: {gives} is {state}, and what is served is {SERVED}"
        planned.append(conversion(state, offer, role="convert", reason=reason))
    return planned


def conversion(state: State, offer: Offer, *, role: str, reason: str, of: str = "") -> PluginRun:
    """Return the plugin that converts a model of that state to one that can be served.

    It is the one that the spec names, or the operator's own, which runs in the runtime image. The conversion makes the
    baseline of every gate, so a plugin with another image is never chosen automatically.

    of: the converted model in the label, for the baseline. Raises SpecError (ConversionNotChosen) and NotYet
    (PluginNotFound).
    """
    able = {
        name: plugin
        for name, plugin in sorted(offer.plugins.items())
        if plugin and plugin.conversion and plugin.consumes == state and plugin.produces == SERVED
    }
    name = _chosen(state, able, offer)
    label = f"conversion{f' of {of}' if of else ''} to {SERVED} ({name} {able[name].version})"
    return PluginRun(role, label, able[name], {}, conversion=True, reason=reason)


def _chosen(state: State, able: Mapping[str, CompressionPluginSpec], offer: Offer) -> str:
    name = offer.conversion
    if name is not None and name in able:
        return name
    if name in offer.plugins:
        problem = f"CompressionPlugin {name} is no conversion of a model of state {state} to {SERVED}"
        raise SpecError(CONVERSION, problem, f"name one of: {', '.join(able) or 'none'}", reason="ConversionNotChosen")
    if name is not None:
        raise NotYet("PluginNotFound", f'{CONVERSION}: there is no CompressionPlugin "{name}"; apply its manifest')
    own = [name for name, plugin in able.items() if plugin.image in (None, offer.runtime_image)]
    if len(own) == 1 or SHIPPED_CONVERSION in own:
        return SHIPPED_CONVERSION if SHIPPED_CONVERSION in own else own[0]
    if able:
        whose = "several of the operator's own image convert" if own else "only plugins of other images convert"
        problem = f"is missing, and {whose} a model of state {state} to {SERVED}: {', '.join([*(own or able)][:8])}"
        raise SpecError(CONVERSION, problem, "name the one to use", reason="ConversionNotChosen")
    message = (
        f"no CompressionPlugin converts a model of state {state} to {SERVED}; apply {SHIPPED_CONVERSION}, for example"
    )
    raise NotYet("PluginNotFound", message)
