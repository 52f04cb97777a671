"""Runs of `slipway plugin check`, each in a process of its own: make models and data, and run a plugin on them.

    python -m slipway.runtime.plugincheck models STORE STATE    # STATE: module, onnx, or none for the data alone
    python -m slipway.runtime.plugincheck run ORDER RESULT      # ORDER: a file with the JSON of a CheckOrder

The models are small, of the recipe's own kinds, and trained for a moment, because the weights of a plugin's real models
are not random either. Each artifact is in `STORE/<name>/artifact`. A run leaves its results in the working folder, and
writes a line of JSON to RESULT for each model, so that the caller knows at which one the process ended.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ContractError, PluginError, SlipwayError
from slipway.api.reports import shorten
from slipway.api.tasks import CompressTask, DataRef
from slipway.runtime.compress import compress, find_plugin
from slipway.runtime.datasets import TEST_SAMPLES, dataset, enlarge, held_out, load_digits
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.runtime.resultcheck import result_findings
from slipway.runtime.store import FolderStore
from slipway.sdk.artifact import Artifact, read_artifact, write_artifact
from slipway.sdk.manifest import DATA_FILE, MODEL_FILE, Content, ModuleSource, TensorSpec
from slipway.sdk.plugin import Compression
from slipway.sdk.plugincheck import DATA, MODELS, SEED, CheckOrder, ModelResult

MAX_REASON = 1024


def run_plugin(order: CheckOrder, result: Path) -> None:
    """Run the plugin on each model; a failure does not keep it from the next one."""
    plugin = find_plugin(order.plugin)
    for name in order.models:
        found = run_on_model(plugin, name, order, Path.cwd() / name)
        with result.open("a") as stream:
            stream.write(found.model_dump_json() + "\n")


def run_on_model(plugin: Compression[Any], name: str, order: CheckOrder, out: Path) -> ModelResult:
    """Run the plugin on one model of the store, and check its result. out: the run's own folder."""
    store = Path(order.store)
    pod = pod_in(store, out)
    model = read_artifact(store / name / ARTIFACT)
    data = reference(read_artifact(store / DATA / ARTIFACT), DATA) if order.data else None
    task = CompressTask(
        entry_point=plugin.name,
        version=plugin.version,
        params=order.params,
        model=reference(model, name),
        data=DataRef(name=DATA, artifact=data) if data else None,
        seed=SEED,
    )
    try:
        compress(plugin, task, pod)
        left = read_artifact(out / ARTIFACT)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        traceback.print_exc()
        refused = isinstance(error, PluginError) and not isinstance(error, ContractError)
        reason = str(error) if refused else f"{_message_of(error)}{_place_of(plugin, error)}"
        return ModelResult(model=name, outcome="refused" if refused else "failed", reason=shorten(reason, MAX_REASON))
    return ModelResult(
        model=name,
        outcome="succeeded",
        state=left.state,
        digest=left.digest,
        files={path: entry.sha256 for path, entry in left.content.files.items()},
        bytes_before=model.size_bytes,
        bytes_after=left.size_bytes,
        findings=tuple(result_findings(model, left, _folders(store, out))),
    )


def pod_in(store: Path, out: Path) -> Pod:
    """Return a pod whose store is one folder, and which writes its result to the other."""
    folder = FolderStore(store, out)
    return Pod(
        store=folder,
        held_out=folder,
        results=folder,
        out=out,
        output=out / "output",
        scratch=out / "scratch",
        repository=out / "repository",
        termination_log=out / "termination-log",
        out_uri=f"store:///{out.name}",
        job_uid="check",
        index=0,
    )


def reference(artifact: Artifact, name: str) -> ArtifactRef:
    """Return the reference to an artifact in a folder of the check's store."""
    return ArtifactRef(uri=f"store:///{name}/{ARTIFACT}", digest=artifact.digest, state=artifact.state)


def _message_of(error: BaseException) -> str:
    """Return the message of an error, with its type unless Slipway raised it."""
    return str(error) if isinstance(error, SlipwayError) else f"{type(error).__name__}: {error}"


def _place_of(plugin: Compression[Any], error: BaseException) -> str:
    """Return the last line of the plugin's module in the traceback; empty without one."""
    code = inspect.getfile(type(plugin))
    raised = traceback.extract_tb((error.__cause__ or error).__traceback__)
    lines = [frame.lineno for frame in raised if frame.filename == code]
    return f" ({Path(code).name}, line {lines[-1]})" if lines else ""


def _folders(store: Path, out: Path) -> list[Path]:
    return [store, out, Path.cwd(), Path(sys.prefix), Path(sysconfig.get_paths()["purelib"])]


EVERY = 4
"""One training sample in this many is used: plugins train on them, and a check should take seconds."""
EPOCHS = 4


def make_models(store: Path, state: State | None) -> None:
    """Write data and models. state: that of the models; None for the data alone."""
    data = _make_data(store)
    for name, source in MODELS.items() if state else ():
        place = store / (name if state is State.MODULE else f"{name}-module")
        module = _train_model(place, data, source)
        if state is State.ONNX:
            _export_model(store, module, name)


def _make_data(store: Path) -> Artifact:
    images, targets = load_digits()
    chosen = np.setdiff1d(np.arange(len(targets)), held_out(targets, TEST_SAMPLES))[::EVERY]
    content, arrays = dataset(enlarge(images[chosen]), targets[chosen])
    return write_artifact(store / DATA / ARTIFACT, content, {DATA_FILE: arrays})


def _train_model(place: Path, data: Artifact, source: ModuleSource) -> Artifact:
    import torch

    from slipway.runtime import modules
    from slipway.runtime.determinism import make_deterministic
    from slipway.runtime.training import Samples, cross_entropy, fit

    make_deterministic(SEED, strict=True)
    samples = Samples.read(data)
    module = modules.build(source.factory, source.args)
    fit(
        module,
        samples,
        torch.device("cpu"),
        epochs=EPOCHS,
        learning_rate=1e-3,
        batch_size=32,
        optimizer="adam",
        seed=SEED,
        loss=cross_entropy,
        progress=lambda number, epoch: print(f"{number}/{EPOCHS}  accuracy {epoch.accuracy:.3f}", flush=True),
    )
    content = Content(
        state=State.MODULE,
        module=source,
        inputs=(TensorSpec(name="input", shape=tuple(samples.inputs.shape[1:])),),
        outputs=(TensorSpec(name="output", shape=(samples.classes,)),),
    )
    return write_artifact(place / ARTIFACT, content, {MODEL_FILE: modules.weights_of(module)})


def _export_model(store: Path, module: Artifact, name: str) -> None:
    """Convert the model as a ModelDeployment does."""
    from slipway.runtime.compress import compress, find_plugin

    plugin = find_plugin("export-onnx")
    model = reference(module, f"{name}-module")
    task = CompressTask(entry_point=plugin.name, version=plugin.version, model=model, seed=SEED)
    compress(plugin, task, pod_in(store, store / name))


def main(command: str, source: Path, argument: str) -> None:
    """Carry out one of the two commands of the module's docstring."""
    if command == "run":
        run_plugin(CheckOrder.model_validate_json(source.read_bytes()), Path(argument))
    else:
        make_models(source, State(argument) if argument != "none" else None)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
