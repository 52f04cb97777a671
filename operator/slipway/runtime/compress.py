"""The task `compress`: run one plugin on one model, with the runtime's side of `slipway.sdk.plugin.Context`.

torch is imported by the methods that need it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.api.artifacts import State
from slipway.api.errors import ContractError, PluginError, SlipwayError
from slipway.api.reports import Report
from slipway.api.tasks import CompressTask
from slipway.runtime import graphs
from slipway.runtime.datasets import read_arrays
from slipway.runtime.determinism import make_deterministic
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.runtime.seal import versions
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import CODE_DIR, MODEL_FILE, ONNX_FILE, Content, ModuleSource, Provenance, TensorSpec
from slipway.sdk.plugin import GROUP, Arrays, Compression, load_plugins, parameters

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class PodContext:
    """The context of one run of one plugin. It writes one artifact, the task's result."""

    def __init__(self, task: CompressTask, pod: Pod, plugin: Compression[Any]) -> None:
        self._task = task
        self._pod = pod
        self._plugin = plugin
        self._started = time.monotonic()
        self.scratch = pod.scratch / f"plugin-{plugin.name}"
        self.scratch.mkdir(parents=True, exist_ok=True)

    @property
    def seed(self) -> int:
        return self._task.seed

    @cached_property
    def device(self) -> torch.device:
        from slipway.runtime.training import local_device

        return local_device({})

    @cached_property
    def _dataset(self) -> Artifact:
        if self._task.data is None:
            raise PluginError(f"plugin {self._plugin.name!r} needs data; set spec.compression.data")
        return self._pod.read(self._task.data.artifact, State.DATASET)

    def data(self) -> Arrays:
        return read_arrays(self._dataset)

    @property
    def int8_saturates(self) -> bool:
        return graphs.int8_saturates()

    def kernel_error(self, graph: bytes, samples: NDArray[np.float32]) -> float:
        return graphs.kernel_error(graph, samples)

    def load_module(self, model: Artifact) -> torch.nn.Module:
        from slipway.runtime.modules import load_module

        return load_module(model).to(self.device)

    def fit(
        self,
        module: torch.nn.Module,
        *,
        epochs: int,
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        optimizer: str = "adam",
        teacher: torch.nn.Module | None = None,
        temperature: float = 2.0,
        soft_share: float = 0.5,
    ) -> dict[str, float]:
        from slipway.runtime.training import Epoch, Loss, Samples, accuracy, cross_entropy, distillation, fit

        def report(number: int, epoch: Epoch) -> None:
            self.progress(f"fine-tuning: loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}", number, epochs)

        samples = Samples.read(self._dataset)
        loss: Loss = cross_entropy
        if teacher is not None:
            loss = distillation(teacher.to(self.device), temperature, soft_share)
        last = fit(
            module,
            samples,
            self.device,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            optimizer=optimizer,
            seed=self.seed,
            loss=loss,
            progress=report,
        )
        return {"loss": last.loss, "accuracy": accuracy(module, samples, self.device)}

    def save_module(
        self, module: torch.nn.Module, like: Artifact, metrics: Mapping[str, float] | None = None
    ) -> Artifact:
        from slipway.runtime import modules

        source = like.content.module
        if source is None:
            raise ContractError(f"plugin {self._plugin.name!r} saves a module like an artifact of state {like.state}")
        module = module.cpu().eval()
        code = like.path / CODE_DIR
        plain = modules.build(source.factory, source.args, code if source.code else None)
        shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
        resized = {name: tensor.shape for name, tensor in module.state_dict().items()} != shapes
        source = ModuleSource(factory=source.factory, args=source.args, code=source.code, resized=resized)
        weights = modules.weights_of(module)
        examples = modules.example(like.content.inputs)
        again = modules.rebuild(source, modules.read_weights(weights), code)
        if not modules.same_outputs(module, again, examples):
            raise ContractError(f"plugin {self._plugin.name!r}: the module gives other outputs when it is built again")
        _, outputs = modules.specs(module, examples)
        files: dict[str, Path | bytes] = {MODEL_FILE: weights}
        files |= {name: like.file(name) for name in like.content.files if name.startswith(f"{CODE_DIR}/")}
        named = tuple(
            spec.model_copy(update={"name": old.name}) for spec, old in zip(outputs, like.content.outputs, strict=True)
        )
        content = Content(state=State.MODULE, module=source, inputs=like.content.inputs, outputs=named)
        return self._write_result(content, files, metrics)

    def write_onnx(self, graph: Path | bytes, metrics: Mapping[str, float] | None = None) -> Artifact:
        data, inputs, outputs = graphs.strip_graph(graph)
        return self._write_result(Content(state=State.ONNX, inputs=inputs, outputs=outputs), {ONNX_FILE: data}, metrics)

    def write(
        self,
        state: State,
        files: Mapping[str, Path | bytes],
        *,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        metrics: Mapping[str, float] | None = None,
    ) -> Artifact:
        return self._write_result(Content(state=state, inputs=tuple(inputs), outputs=tuple(outputs)), files, metrics)

    def progress(self, message: str, done: int = 0, total: int = 0) -> None:
        print(f"{done}/{total}  {message}" if total else message, flush=True)

    def _write_result(
        self, content: Content, files: Mapping[str, Path | bytes], metrics: Mapping[str, float] | None
    ) -> Artifact:
        plugin, task = self._plugin, self._task
        if (
            content.state is not plugin.produces
        ):  # before it is written: a complete artifact there is taken for the result
            raise ContractError(f"plugin {plugin.name!r} wrote state {content.state}, and declares {plugin.produces}")
        origin = Provenance(
            task="compress",
            parents=(task.model.digest, *((task.data.artifact.digest,) if task.data else ())),
            parameters={"plugin": task.entry_point, "params": dict(task.params), "seed": task.seed},
            metrics={**(metrics or {}), "seconds": round(time.monotonic() - self._started, 3)},
            versions={**versions(), plugin.name: plugin.version},
        )
        return self._pod.store.write(ARTIFACT, content, files, origin)


def run(task: CompressTask, pod: Pod) -> Report:
    """Run the plugin of the task. Raises PluginError, with the plugin's name and version, for all of its errors."""
    plugin = find_plugin(task.entry_point)
    return compress(plugin, task, pod)


def find_plugin(name: str) -> Compression[Any]:
    """Return the plugin of that entry point. Raises PluginError with what is wrong with it, or which ones exist."""
    loaded, broken = load_plugins(list(entry_points(group=GROUP, name=name)))
    if name in loaded:
        return loaded[name]
    if broken:
        raise PluginError(f"plugin {name!r} ({broken[0].value}) cannot be loaded: {broken[0].error}")
    known = ", ".join(sorted({point.name for point in entry_points(group=GROUP)})) or "none"
    raise PluginError(f"the image has no plugin {name!r}; it has {known}")


def compress(plugin: Compression[Any], task: CompressTask, pod: Pod) -> Report:
    """Run the plugin and report its result."""
    if plugin.version != task.version:
        raise PluginError(
            f"the image has version {plugin.version} of plugin {plugin.name!r}, and its CompressionPlugin has"
            f" {task.version}; apply the manifest that belongs to the image"
        )
    model = pod.read(task.model)
    if model.state is not plugin.consumes:
        raise PluginError(f"plugin {plugin.name!r} takes state {plugin.consumes}, and the model is {model.state}")
    if plugin.needs_data and task.data is None:
        raise PluginError(f"plugin {plugin.name!r} needs data; set spec.compression.data")
    params = parameters(plugin, task.params)
    with_torch = State.MODULE in (plugin.consumes, plugin.produces)
    make_deterministic(task.seed, strict=True, with_torch=with_torch)
    context = PodContext(task, pod, plugin)
    context.progress(f"{plugin.name} {plugin.version} on {model.digest}, {model.size_bytes} bytes")
    try:
        result = plugin.run(model, params, context)
    except SlipwayError:
        raise
    except Exception as error:
        raise ContractError(f"plugin {plugin.name!r} {plugin.version}: {type(error).__name__}: {error}") from error
    if not isinstance(result, Artifact) or result.path != pod.out / ARTIFACT:
        raise ContractError(
            f"plugin {plugin.name!r} {plugin.version} did not return the artifact that its context wrote"
        )
    context.progress(f"wrote {result.state} {result.digest}, {result.size_bytes} bytes")
    return pod.succeeded(result, result.manifest.provenance.metrics)
