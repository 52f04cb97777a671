"""The contract of a compression plugin: the interface that an author implements, and the context that the runtime
passes.

A plugin is a class that an entry point of the group `slipway.plugins` names. It is imported in the pods that run it and
by the CLI that describes it, so its module imports torch and the like only inside `run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from slipway.api.artifacts import State
from slipway.api.compressionplugin import CompressionPluginSpec, PluginNeeds
from slipway.api.errors import PluginError
from slipway.api.kinds import COMPRESSION_PLUGIN
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["GROUP", "Arrays", "BrokenPlugin", "Compression", "Context", "PluginError", "load_plugins"]

GROUP = "slipway.plugins"
"""The entry-point group."""

ParamsT = TypeVar("ParamsT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set in memory, as a model sees it."""

    inputs: NDArray[np.float32]
    """[N, ...], scaled."""
    targets: NDArray[np.int64]
    """[N], classes from 0."""
    classes: int
    """Number of classes."""


class Context(Protocol):
    """Interface of the runtime for a plugin: data, device, training, and the only way to write its result."""

    @property
    def device(self) -> torch.device:
        """Device on which modules are loaded and trained."""

    @property
    def seed(self) -> int:
        """Seed of the step: torch's and numpy's global generators start from it, so the same seed gives the same
        artifact.
        """

    @property
    def scratch(self) -> Path:
        """Temporary folder of the plugin; it is deleted with the pod."""

    @property
    def int8_saturates(self) -> bool:
        """True if 8-bit sums of onnxruntime saturate on this processor (x86 without VNNI); those of 7-bit weights do
        not.

        It is measured in a few milliseconds, on the Node of the step, not on the Nodes that serve.
        """

    def data(self) -> Arrays:
        """Return the data for calibration and fine-tuning, never held-out data: the same samples in the same order each
        time.

        Raises PluginError if the step has no data.
        """

    def kernel_error(self, graph: bytes, samples: NDArray[np.float32]) -> float:
        """Compare an ONNX graph of one input with exact arithmetic, on at most 32 of the samples.

        Returns the mean difference of the outputs as a fraction of their size: 0 if they agree, at most 1.
        """

    def load_module(self, model: Artifact) -> torch.nn.Module:
        """Build the module of an artifact of state module and load its weights; float32, in evaluation mode."""

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
        """Train the module in place on `data()` by cross-entropy; leaves it in evaluation mode.

        optimizer: a class of torch.optim, in any case. With a teacher the loss is soft_share times the
        Kullback-Leibler divergence at the temperature (Hinton et al. 2015) and the rest cross-entropy.
        Returns the last epoch's `loss` and the accuracy on the training data.
        """

    def save_module(
        self, module: torch.nn.Module, like: Artifact, metrics: Mapping[str, float] | None = None
    ) -> Artifact:
        """Write the module as the step's result, built as `like` was; its layers may have other widths.

        Raises PluginError if the module, built again, does not give the same outputs.
        """

    def write_onnx(self, graph: Path | bytes, metrics: Mapping[str, float] | None = None) -> Artifact:
        """Write an ONNX model (one file, first dimension of inputs and outputs the batch) as the step's result.

        Documentation strings and metadata are removed, because they have paths of the machine.
        """

    def write(
        self,
        state: State,
        files: Mapping[str, Path | bytes],
        *,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        metrics: Mapping[str, float] | None = None,
    ) -> Artifact:
        """Write files as the step's result, in any other state."""

    def progress(self, message: str, done: int = 0, total: int = 0) -> None:
        """Print a line on the progress to the pod's log, for instance once per epoch."""


class Compression(Protocol[ParamsT]):
    """A step that makes a model smaller, or converts it to another state."""

    @property
    def name(self) -> str:
        """Name of the entry point."""

    @property
    def version(self) -> str:
        """Version of the plugin. Raise it with every change of results: it is part of the digest of a step."""

    @property
    def description(self) -> str:
        """Description for users, in a sentence."""

    @property
    def consumes(self) -> State:
        """State of the model that it takes: module or onnx."""

    @property
    def produces(self) -> State:
        """State of the model that it returns: module or onnx."""

    @property
    def conversion(self) -> bool:
        """True if it changes only the state, so that it may be inserted between two steps whose states differ."""

    @property
    def needs_data(self) -> bool:
        """True if it needs data for calibration or fine-tuning."""

    @property
    def params(self) -> type[ParamsT]:
        """Model of its parameters; users see the field descriptions and bounds."""

    def run(self, model: Artifact, params: ParamsT, context: Context) -> Artifact:
        """Make the smaller model and write it by the context. Raises PluginError for a model that it cannot handle."""


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be loaded, and the reason: only steps that name it fail."""

    name: str
    value: str
    """`package.module:Class` of the entry point."""
    error: str


def load_plugins(points: Sequence[EntryPoint]) -> tuple[dict[str, Compression[Any]], list[BrokenPlugin]]:
    """Load every plugin by itself. If two plugins have one name, none is loaded: the choice would depend on the
    order."""
    named = Counter(point.name for point in points)
    loaded: dict[str, Compression[Any]] = {}
    broken: list[BrokenPlugin] = []
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        try:
            if named[point.name] > 1:
                raise PluginError(f"{named[point.name]} plugins are named {point.name!r}; none is loaded")  # noqa: TRY301
            loaded[point.name] = validate_plugin(point.name, point.load())
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and each error is shown
            broken.append(BrokenPlugin(point.name, point.value, f"{type(error).__name__}: {error}"))
    return loaded, broken


def validate_plugin(name: str, plugin: object) -> Compression[Any]:
    """Return the plugin (a class is called without arguments). Raises PluginError if it breaks the contract."""
    if isinstance(plugin, type):
        plugin = plugin()
    problems = [
        f"{field} is {type(value).__name__}, not {kind.__name__}"
        for field, kind in _FIELDS.items()
        if not isinstance(value := getattr(plugin, field, None), kind)
    ]
    params = getattr(plugin, "params", None)
    if not (isinstance(params, type) and issubclass(params, BaseModel)):
        problems.append("params is not a pydantic model")
    if not callable(getattr(plugin, "run", None)):
        problems.append("run is not a method")
    problems += [
        f"{field} is neither module nor onnx"
        for field in ("consumes", "produces")
        if getattr(plugin, field, None) in (State.DATASET, State.PREDICTIONS, State.REPOSITORY)
    ]
    if not problems and getattr(plugin, "name", name) != name:
        problems.append(f"its name is {getattr(plugin, 'name', None)!r}, not the entry point's")
    if problems:
        raise PluginError(f"plugin {name!r} breaks the contract: {'; '.join(problems)}")
    return plugin  # type: ignore[return-value]


def parameters(plugin: Compression[Any], given: Mapping[str, Any]) -> BaseModel:
    """Return the parameters for `run`. Raises PluginError with each parameter that is wrong."""
    try:
        valid: BaseModel = plugin.params.model_validate(dict(given), extra="forbid")
    except ValidationError as error:
        wrong = "; ".join(
            f"params.{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        )
        raise PluginError(f"plugin {plugin.name!r} {plugin.version}: {wrong}") from error
    return valid


_FIELDS: dict[str, type] = {
    "name": str,
    "version": str,
    "description": str,
    "consumes": State,
    "produces": State,
    "conversion": bool,
    "needs_data": bool,
}


def plugin_manifest(plugin: Compression[Any], image: str | None = None) -> dict[str, Any]:
    """Return the CompressionPlugin object of a plugin. image: its own image; None for the operator's runtime image.

    Raises pydantic.ValidationError for a value that a CompressionPlugin cannot have.
    """
    spec = CompressionPluginSpec.model_validate(
        {
            "version": plugin.version,
            "description": plugin.description,
            "entryPoint": plugin.name,
            "image": image,
            "consumes": plugin.consumes.value,
            "produces": plugin.produces.value,
            "conversion": plugin.conversion,
            "needs": PluginNeeds(data=plugin.needs_data),
            "parameters": plugin.params.model_json_schema(),
        }
    )
    return {
        "apiVersion": COMPRESSION_PLUGIN.api_version,
        "kind": COMPRESSION_PLUGIN.kind,
        "metadata": {"name": plugin.name},
        "spec": spec.to_wire(),
    }
