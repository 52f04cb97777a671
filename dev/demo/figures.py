"""What a run of the digits came to: its figures, the bars that it is held to, and the table of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from demo.reference import Places, Reference

Object = dict[str, Any]
Answers = Mapping[str, tuple[dict[str, Any], np.ndarray[Any, Any]]]
"""By protocol: what `slipway predict -o json` says, and the raw outputs [N, classes]."""

TOLERANCE = 1e-4
"""The largest difference allowed between a served output and the packed file's."""


def figures(status: Object, answers: Answers, reference: Reference) -> dict[str, Any]:
    """status: of the ModelDeployment that serves. The keys of the report."""
    revision = serving(status)
    http, outputs = answers["http"]
    return {
        "accuracy_float": revision["gate"]["accuracyBaseline"],
        "accuracy_pruned": _accuracy(reference.pruned, reference),
        "accuracy_compressed": revision["gate"]["accuracyCandidate"],
        "accuracy_served": _accuracy(outputs, reference),
        "drop_bound": revision["gate"]["dropBound"],
        "requests_http": http["requests"],
        "requests_grpc": answers["grpc"][0]["requests"],
        "mismatches": sum(_mismatches(outputs, reference) for _, outputs in answers.values()),
        "latency_ms": {protocol: facts["latency_ms"] for protocol, (facts, _) in answers.items()},
        "requests_per_second": {protocol: facts["requests_per_second"] for protocol, (facts, _) in answers.items()},
        "int8_share": reference.int8_share,
        "bytes_float": status["sizes"]["floatBytes"],
        "bytes_pruned": reference.pruned_bytes,
        "bytes_compressed": status["sizes"]["compressedBytes"],
    }


def places(status: Object, steps: Iterable[Object]) -> Places:
    """URIs of the models that serve or led to the one that serves, and of its evaluation data. steps: its Steps."""
    made = {step["spec"]["role"]: step["status"]["run"].get("artifact") for step in steps}
    data = next(artifact for role, artifact in made.items() if role.startswith("prepare-eval"))
    return Places(_path(data), _path(serving(status)["repository"]), _path(made["convert"]))


def serving(status: Object) -> Object:
    """The revision that serves."""
    return next(revision for revision in status["revisions"] if revision["name"] == status["serving"])


def missed_bars(result: dict[str, Any]) -> list[str]:
    """What the example promises and this run does not keep."""
    bars = {
        "float32 accuracy is at least 0.95": result["accuracy_float"] >= 0.95,
        "served accuracy is the compressed model's": result["accuracy_served"] == result["accuracy_compressed"],
        "every answer is the packed file's": result["mismatches"] == 0,
        "540 requests by each protocol": result["requests_http"] == result["requests_grpc"] == 540,
        "more than 0.9 of the served numbers are int8": result["int8_share"] > 0.9,
        "int8 is at least 3.4 times smaller than the same pruned float32": (
            result["bytes_pruned"] >= 3.4 * result["bytes_compressed"]
        ),
        "int8 is at least 6.5 times smaller than the original float32": (
            result["bytes_float"] >= 6.5 * result["bytes_compressed"]
        ),
    }
    return [bar for bar, held in bars.items() if not held]


def table(results: list[dict[str, Any]]) -> Group:
    """What the models came to, and how fast the served one answers, one sample a request."""
    models = Table("seed", "model", "accuracy", "bytes", "times smaller")
    requests = Table("seed", "protocol", "p50 ms", "p99 ms", "requests/s")
    for result in results:
        seed, whole = str(result["seed"]), result["bytes_float"]
        rows = (
            ("float32", f"{result['accuracy_float']:.4f}", whole),
            ("pruned", f"{result['accuracy_pruned']:.4f}", result["bytes_pruned"]),
            ("pruned int8, served", f"{result['accuracy_served']:.4f}", result["bytes_compressed"]),
        )
        for model, accuracy, size in rows:
            models.add_row(seed, model, accuracy, f"{size:,}", f"{whole / size:.1f}")
        for protocol, times in result["latency_ms"].items():
            rate = result["requests_per_second"][protocol]
            requests.add_row(seed, protocol, f"{times['p50']:.2f}", f"{times['p99']:.2f}", f"{rate:.0f}")
    return Group(models, requests)


def write_report(path: Path, results: list[dict[str, Any]], seconds: Mapping[str, float]) -> None:
    """The first seed's figures, the seconds of each stage, and all seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**results[0], "seconds": seconds, "seeds": results}, indent=1) + "\n")


def _accuracy(outputs: np.ndarray[Any, Any], reference: Reference) -> float:
    return float((outputs.argmax(axis=1) == reference.targets).mean())


def _mismatches(outputs: np.ndarray[Any, Any], reference: Reference) -> int:
    """Samples whose class or outputs are not the packed file's."""
    if outputs.shape != reference.outputs.shape:
        return max(len(outputs), len(reference.outputs))
    apart = np.abs(outputs - reference.outputs).max(axis=1) > TOLERANCE
    other = outputs.argmax(axis=1) != reference.outputs.argmax(axis=1)
    return int((apart | other).sum())


def _path(artifact: Object) -> str:
    return str(artifact["uri"]).removeprefix("store:///")
