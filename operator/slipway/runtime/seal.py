"""The task `seal`: make an artifact of the output folder of a script. Nothing is unpickled, and no code runs."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, OutputError
from slipway.api.reports import Report
from slipway.api.tasks import SealTask
from slipway.runtime.graphs import strip_graph
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.sdk.manifest import CODE_DIR, MANIFEST, MODEL_FILE, ONNX_FILE, Content, Manifest, Provenance

PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"})
_CURE = (
    "call slipway.runtime.save(model, example_inputs) on rank 0, or write one .onnx file, "
    f"or {MODEL_FILE} with a {MANIFEST} that has its factory"
)


def run(_task: SealTask, pod: Pod) -> Report:
    """Seal the output folder of a training in the user's own image."""
    return seal_output(pod, Provenance(task="seal"))


def seal_output(pod: Pod, origin: Provenance) -> Report:
    """Write the artifact and report it. Raises OutputError with what to write instead."""
    content, files, metrics = model_of(pod.output)
    merged = {**metrics, **origin.metrics}
    provenance = origin.model_copy(update={"metrics": merged, "versions": versions()})
    artifact = pod.store.write(ARTIFACT, content, files, provenance)
    print(f"sealed {artifact.state} {artifact.digest}, {artifact.size_bytes} bytes", flush=True)
    return pod.succeeded(artifact, merged)


def model_of(output: Path) -> tuple[Content, dict[str, Path | bytes], Mapping[str, float]]:
    """Return the model in the folder: content, files by their name in the artifact, and metrics."""
    names = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if MANIFEST in names:
        return _by_manifest(output)
    graphs = [name for name in names if name.endswith(".onnx")]
    if len(graphs) == 1:
        content, files = _onnx(_plain(output / graphs[0]))
        return content, files, {}
    if graphs:
        raise OutputError(f"the output folder has {len(graphs)} models ({', '.join(graphs)}); keep one")
    if pickles := [name for name in names if Path(name).suffix in PICKLES]:
        raise OutputError(
            f"the output folder has {', '.join(pickles[:5])}: pickles are refused, as they run code when read; " + _CURE
        )
    if not names:
        raise OutputError(f"the output folder is empty; {_CURE}")
    raise OutputError(f"the output folder has no model, only {', '.join(names[:5])}; {_CURE}")


def _by_manifest(output: Path) -> tuple[Content, dict[str, Path | bytes], Mapping[str, float]]:
    try:
        manifest = Manifest.model_validate(json.loads(_plain(output / MANIFEST).read_bytes()))
    except (ValueError, ValidationError) as error:
        raise OutputError(f"{MANIFEST} in the output folder is invalid: {error}") from error
    content, metrics = manifest.content, manifest.provenance.metrics
    if content.state is State.ONNX:
        content, files = _onnx(_plain(output / ONNX_FILE))
        return content, files, metrics
    if content.state is not State.MODULE or content.module is None:
        raise OutputError(f"{MANIFEST} in the output folder has state {content.state}; {_CURE}")
    files = {MODEL_FILE: _safetensors(_plain(output / MODEL_FILE))}
    if content.module.code:
        code = sorted(path for path in (output / CODE_DIR).rglob("*.py"))
        if not code:
            raise OutputError(f"{MANIFEST} refers to {CODE_DIR}/ for the factory, and that has no Python file")
        files |= {path.relative_to(output).as_posix(): _plain(path) for path in code}
    return content.model_copy(update={"files": {}}), files, metrics


def _onnx(path: Path) -> tuple[Content, dict[str, Path | bytes]]:
    try:
        graph, inputs, outputs = strip_graph(path)
    except ArtifactError as error:
        raise OutputError(str(error)) from error
    return Content(state=State.ONNX, inputs=inputs, outputs=outputs), {ONNX_FILE: graph}


def _plain(path: Path) -> Path:
    if path.is_symlink() or not path.is_file():
        raise OutputError(f"{path.name} in the output folder is missing or not a plain file")
    return path


def _safetensors(path: Path) -> Path:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            names = list(tensors.keys())
    except SafetensorError as error:
        raise OutputError(f"{path.name} in the output folder is not a safetensors file: {error}") from error
    if not names:
        raise OutputError(f"{path.name} in the output folder has no tensor")
    return path


def versions() -> dict[str, str]:
    """Return the versions of the libraries that make artifacts, if they are installed."""
    found = {}
    for name in ("slipway-operator", "torch", "onnx", "onnxruntime", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
