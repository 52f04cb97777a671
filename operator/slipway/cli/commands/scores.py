"""What a classifier's answers say: classes, probabilities, accuracy, latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipway.cli.connections.triton import Answers
from slipway.cli.rendering.tables import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 10
"""Predictions in a table; JSON and YAML hold all."""


def probabilities(outputs: NDArray[Any]) -> NDArray[np.float64]:
    """[N, classes] by softmax of the scores; as they are where each row is a distribution already."""
    import numpy as np

    scores = outputs.reshape(len(outputs), -1).astype(np.float64)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def result(answers: Answers, targets: NDArray[np.int64] | None) -> dict[str, Any]:
    """samples, accuracy (None without targets), latency_ms by p50 and p99, requests_per_second, predictions."""
    import numpy as np

    shares = probabilities(answers.outputs)
    classes = shares.argmax(axis=1)
    p50, p99 = np.percentile(np.asarray(answers.seconds) * 1000, (50, 99))
    predictions: list[dict[str, Any]] = [
        {"index": index, "class": int(label), "probability": round(float(shares[index, label]), 6)}
        for index, label in enumerate(classes)
    ]
    for row, target in zip(predictions, () if targets is None else targets, strict=False):
        row["target"] = int(target)
    return {
        "samples": len(classes),
        "requests": len(answers.seconds),
        "accuracy": None if targets is None else float((classes == targets).mean()),
        "latency_ms": {"p50": round(float(p50), 3), "p99": round(float(p99), 3)},
        "requests_per_second": round(len(answers.seconds) / answers.total_seconds, 1),
        "predictions": predictions,
    }


def tables(facts: dict[str, Any]) -> list[Table]:
    """What `result` says, with `model`, `version`, `protocol` and `via` beside it."""
    shown = facts["predictions"][:SHOWN]
    known = any("target" in row for row in shown)
    rows = tuple(
        (str(row["index"]), str(row["class"]), f"{row['probability']:.4f}")
        + ((str(row["target"]), "yes" if row["class"] == row["target"] else "no") if known else ())
        for row in shown
    )
    columns = ("SAMPLE", "CLASS", "PROBABILITY", *(("TARGET", "RIGHT") if known else ()))
    right = round((facts["accuracy"] or 0) * facts["samples"])
    lines = [
        f"model {facts['model']} version {facts['version']} by {facts['protocol']}, {facts['via']}",
        f"{facts['samples']} samples in {facts['requests']} requests: p50 {facts['latency_ms']['p50']:.2f} ms, "
        f"p99 {facts['latency_ms']['p99']:.2f} ms, {facts['requests_per_second']:g} requests/s",
    ]
    if facts["accuracy"] is not None:
        lines.append(f"accuracy {facts['accuracy']:.4f} ({right} of {facts['samples']} right)")
    rest = facts["samples"] - len(shown)
    more = [Table((), (), lines=(f"{rest} more samples: --output json shows all",))] if rest else []
    return [Table((), (), lines=tuple(lines)), Table(columns, rows), *more]
