"""Which plugins run in which order: the spec's steps, and conversions wherever one's result is not the next's input.

Order is legal by the state of the model (module, onnx), never by names: a plugin made tomorrow fits in.
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
from slipway.plan.deployment.params import check_params
from slipway.plan.references import NotYet
from slipway.plan.seen import Seen

STEPS = "spec.compression.steps"
SERVED = State.ONNX
"""What a model must be to be evaluated, packed and served."""

Plugins = Mapping[str, CompressionPluginSpec | None]
"""By name; None for one whose object cannot be read."""


@dataclass(frozen=True, slots=True)
class Step:
    """One plugin to run.

    role: the name of its task. label: how messages call it. conversion: inserted, not asked for.
    """

    role: str
    label: str
    plugin: CompressionPluginSpec
    params: Mapping[str, Any]
    conversion: bool = False


def plugins_in(seen: Seen) -> Plugins:
    """All CompressionPlugins of the cluster."""
    return {obj["metadata"]["name"]: _spec_of(obj) for obj in seen.select(COMPRESSION_PLUGIN, "", {})}


def _spec_of(obj: Mapping[str, Any]) -> CompressionPluginSpec | None:
    try:
        return CompressionPlugin.model_validate({"spec": obj.get("spec")}).spec
    except ValidationError:
        return None


def plan_steps(steps: tuple[CompressionStep, ...], state: State, plugins: Plugins, *, has_data: bool) -> list[Step]:
    """The steps from a model of that state to one that can be served.

    has_data: whether there is anything to calibrate or fine-tune with. Raises SpecError for what the spec cannot
    have (IllegalOrder, InvalidParams, DataMissing, PluginInvalid), and NotYet (PluginNotFound) only where all else is
    good.
    """
    missing = [step.plugin for step in steps if step.plugin not in plugins]
    known = [(index, step, _usable(index, step, plugins)) for index, step in enumerate(steps) if step.plugin in plugins]
    for index, step, plugin in known:
        check_params(f"{STEPS}[{index}].params", step.plugin, step.params, plugin.parameters)
        if plugin.needs.data and not has_data:
            problem = f"is missing, and {STEPS}[{index}] ({step.plugin}) needs data"
            raise SpecError("spec.compression.data", problem, "name the data to use", reason="DataMissing")
    if missing:
        raise NotYet("PluginNotFound", f'{STEPS}: there is no CompressionPlugin "{missing[0]}"; apply its manifest')
    return _ordered(known, state, plugins)


def _usable(index: int, step: CompressionStep, plugins: Plugins) -> CompressionPluginSpec:
    plugin = plugins[step.plugin]
    if plugin is None:
        problem = f"CompressionPlugin {step.plugin} cannot be read"
        raise SpecError(f"{STEPS}[{index}].plugin", problem, "apply its manifest anew", reason="PluginInvalid")
    return plugin


def _ordered(
    known: list[tuple[int, CompressionStep, CompressionPluginSpec]], state: State, plugins: Plugins
) -> list[Step]:
    planned: list[Step] = []
    left_by = "the model"
    for index, step, plugin in known:
        wanted = State(plugin.consumes)
        if wanted is not state:
            if state is SERVED:
                raise SpecError(
                    f"{STEPS}[{index}]",
                    f"{step.plugin} takes a model of state {wanted}, and {left_by} gives {state}",
                    f"put {step.plugin} before {left_by}" if planned else "start from a model of that state",
                    reason="IllegalOrder",
                )
            planned.append(conversion(state, plugins, role="convert"))
        role = f"step-{index}-{step.plugin.replace('.', '-')}"[:63].rstrip("-")
        planned.append(Step(role, f"{STEPS}[{index}] ({step.plugin} {plugin.version})", plugin, step.params))
        state, left_by = State(plugin.produces), f"{step.plugin} ({STEPS}[{index}])"
    if state is not SERVED:
        planned.append(conversion(state, plugins, role="convert"))
    return planned


def conversion(state: State, plugins: Plugins, *, role: str, of: str = "") -> Step:
    """The plugin that converts a model of that state to one that can be served: the first by name.

    of: what is converted, where it is not what the steps work on.

    Raises NotYet (PluginNotFound) where no plugin does.
    """
    for name, plugin in sorted(plugins.items()):
        if plugin and plugin.conversion and plugin.consumes == state and plugin.produces == SERVED:
            label = f"conversion{f' of {of}' if of else ''} to {SERVED} ({name} {plugin.version})"
            return Step(role, label, plugin, {}, conversion=True)
    message = f"no CompressionPlugin converts a model of state {state} to {SERVED}; apply one, as export-onnx"
    raise NotYet("PluginNotFound", message)
