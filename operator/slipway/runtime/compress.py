"""The task `compress`: one plugin on one model, found by its entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from slipway.api.artifacts import State
from slipway.api.errors import ContractError, PluginError, SlipwayError
from slipway.api.reports import Report
from slipway.api.tasks import CompressTask
from slipway.runtime.context import PodContext
from slipway.runtime.determinism import make_deterministic
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.sdk.artifact import Artifact
from slipway.sdk.plugin import GROUP, Compression, load_plugins, parameters


def run(task: CompressTask, pod: Pod) -> Report:
    """Raises PluginError, with the plugin's name and version, for all that the plugin or its parameters get wrong."""
    plugin = find_plugin(task.entry_point)
    return compress(plugin, task, pod)


def find_plugin(name: str) -> Compression[Any]:
    """The plugin of that entry point. Raises PluginError that says what is wrong with it, or which there are."""
    loaded, broken = load_plugins(list(entry_points(group=GROUP, name=name)))
    if name in loaded:
        return loaded[name]
    if broken:
        raise PluginError(f"plugin {name!r} ({broken[0].value}) cannot be loaded: {broken[0].error}")
    known = ", ".join(sorted({point.name for point in entry_points(group=GROUP)})) or "none"
    raise PluginError(f"the image has no plugin {name!r}; it has {known}")


def compress(plugin: Compression[Any], task: CompressTask, pod: Pod) -> Report:
    """Run the plugin and report what it left."""
    if plugin.version != task.version:
        raise PluginError(
            f"the image holds version {plugin.version} of plugin {plugin.name!r}, and its CompressionPlugin names"
            f" {task.version}: apply the manifest that belongs to the image"
        )
    model = pod.read(task.model)
    if model.state is not plugin.consumes:
        raise PluginError(f"plugin {plugin.name!r} takes state {plugin.consumes}, and the model is {model.state}")
    if plugin.needs_data and task.data is None:
        raise PluginError(f"plugin {plugin.name!r} needs data: set spec.compression.data")
    params = parameters(plugin, task.params)
    with_torch = State.MODULE in (plugin.consumes, plugin.produces)
    make_deterministic(task.seed, strict=True, with_torch=with_torch)
    context = PodContext(task, pod, plugin)
    context.progress(f"{plugin.name} {plugin.version} on {model.digest}, {model.size_bytes} bytes")
    try:
        left = plugin.run(model, params, context)
    except SlipwayError:
        raise
    except Exception as error:
        raise ContractError(f"plugin {plugin.name!r} {plugin.version}: {type(error).__name__}: {error}") from error
    if not isinstance(left, Artifact) or left.path != pod.out / ARTIFACT:
        raise ContractError(f"plugin {plugin.name!r} {plugin.version} did not return what its context wrote")
    context.progress(f"left {left.state} {left.digest}, {left.size_bytes} bytes")
    return pod.succeeded(left, left.manifest.provenance.metrics)
