"""From a trained model to a fetched repository: `python -m support.chain_runs`, JSON on stdin and stdout.

A process of its own, so that a test needs no torch itself. Each task is a pod's, with a disk of its own on a bucket.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from slipway.api.artifacts import ArtifactRef
from slipway.api.tasks import CompareTask, CompressTask, DataRef, EvaluateTask, FetchTask, PackageTask
from slipway.runtime import storetasks
from slipway.runtime.compress import find_plugin
from slipway.sdk.artifact import read_artifact
from support.stores import AnyStore, RemoteStore, do, made, pod_in

PRUNE = {"ratio": 0.5, "recover": {"epochs": 1}}


def run(
    store: AnyStore, model: ArtifactRef, train: ArtifactRef, test: ArtifactRef, apart: RemoteStore | None = None
) -> dict[str, Any]:
    """Digests by step, and what the comparison counted. apart: the bucket in which the test data lies, if another."""
    seen, held_out = DataRef(name="train", artifact=train), DataRef(name="test", artifact=test)

    def compress(folder: str, plugin: str, of: ArtifactRef, **params: Any) -> ArtifactRef:
        version = find_plugin(plugin).version
        task = CompressTask(entry_point=plugin, version=version, params=params, model=of, data=seen, seed=3)
        return made(do(store, folder, task))

    left = {"baseline": compress("baseline", "export-onnx", model)}
    left["pruned"] = compress("pruned", "prune-structured", model, **PRUNE)
    left["graph"] = compress("graph", "export-onnx", left["pruned"])
    left["int8"] = compress("int8", "quantize-int8", left["graph"])
    said = {
        name: made(do(store, f"evaluate-{name}", EvaluateTask(model=left[name], data=held_out), apart))
        for name in ("baseline", "int8")
    }
    counts = do(apart or store, "compare", CompareTask(baseline=said["baseline"], candidate=said["int8"])).counts
    assert counts is not None
    package = PackageTask(model=left["int8"], name="digits", max_batch_size=64, data=held_out)
    left["repository"] = made(do(store, "package", package, apart))
    serving = pod_in(store, "serving")
    storetasks.fetch_repository(FetchTask(artifact=left["repository"]), serving)
    (serving.repository / "frontend.py").unlink()  # of the image, beside what is packed
    digests = {name: ref.digest for name, ref in left.items()}
    return {"digests": digests, "fetched": read_artifact(serving.repository).digest, "counts": counts.to_wire()}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    disk = Path(asked["folder"])
    place: AnyStore = RemoteStore(**asked["remote"], disk=disk) if "remote" in asked else disk
    apart = RemoteStore(**asked["apart"], disk=disk) if "apart" in asked else None
    refs = {name: ArtifactRef.model_validate(asked[name]) for name in ("model", "train", "test")}
    with contextlib.redirect_stdout(sys.stderr):
        result = run(place, **refs, apart=apart)
    print(json.dumps(result))
