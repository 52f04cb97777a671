"""`python -m slipway.runtime.trialmodels STORE STATE`: the models that plugins are tried on, and data.

STATE is module, onnx, or none for the data alone. Each lies in `STORE/<name>/artifact`. The models are small, the
recipe's own kinds, and trained for a moment: the weights of a plugin's real models are not random either.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from slipway.api.artifacts import State
from slipway.api.tasks import CompressTask
from slipway.runtime.pod import ARTIFACT
from slipway.runtime.prepare import TEST_SAMPLES, dataset, enlarge, held_out, load_digits
from slipway.runtime.trial import pod_in, reference
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import DATA_FILE, MODEL_FILE, Content, ModuleSource, TensorSpec
from slipway.sdk.trials import DATA, MODELS, SEED
from slipway.sdk.write import write_artifact

EVERY = 4
"""Of the training samples one in so many: plugins train on them, and a check should take seconds."""
EPOCHS = 4


def main(store: Path, state: State | None) -> None:
    """Leave data and models."""
    data = _data(store)
    for name, source in MODELS.items() if state else ():
        place = store / (name if state is State.MODULE else f"{name}-module")
        module = _trained(place, data, source)
        if state is State.ONNX:
            _exported(store, module, name)


def _data(store: Path) -> Artifact:
    images, targets = load_digits()
    chosen = np.setdiff1d(np.arange(len(targets)), held_out(targets, TEST_SAMPLES))[::EVERY]
    content, arrays = dataset(enlarge(images[chosen]), targets[chosen])
    return write_artifact(store / DATA / ARTIFACT, content, {DATA_FILE: arrays})


def _trained(place: Path, data: Artifact, source: ModuleSource) -> Artifact:
    import torch

    from slipway.runtime import modules
    from slipway.runtime.determinism import make_deterministic
    from slipway.runtime.fit import cross_entropy, fit
    from slipway.runtime.training import Samples

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


def _exported(store: Path, module: Artifact, name: str) -> None:
    """As a deployment would have it: by the conversion that is put between."""
    from slipway.runtime.compress import compress, find_plugin

    plugin = find_plugin("export-onnx")
    model = reference(module, f"{name}-module")
    task = CompressTask(entry_point=plugin.name, version=plugin.version, model=model, seed=SEED)
    compress(plugin, task, pod_in(store, store / name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), State(sys.argv[2]) if sys.argv[2] != "none" else None)
