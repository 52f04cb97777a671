"""What a model said of a data set, as an artifact: the classes, beside the true ones, and which data it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.runtime.store import Store
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import PREDICTIONS_FILE, Content, Provenance


@dataclass(frozen=True, slots=True)
class Predictions:
    """predicted, targets: classes, int64 [N]. data: digest of the data set."""

    predicted: NDArray[np.int64]
    targets: NDArray[np.int64]
    data: str

    @property
    def accuracy(self) -> float:
        """The share of samples whose class was found."""
        return float((self.predicted == self.targets).mean())


def write_predictions(store: Store, name: str, predictions: Predictions, provenance: Provenance) -> Artifact:
    """Leave the predictions as an artifact of that name; the data's digest is part of its content."""
    tensors = {"predicted": predictions.predicted, "targets": predictions.targets}
    body = save(tensors, metadata={"data": predictions.data})
    return store.write(name, Content(state=State.PREDICTIONS), {PREDICTIONS_FILE: body}, provenance)


def read_predictions(artifact: Artifact) -> Predictions:
    """Raises ArtifactError for a file that does not hold two equally long rows of classes."""
    path = artifact.file(PREDICTIONS_FILE)
    try:
        with safe_open(str(path), framework="numpy") as file:
            data = (file.metadata() or {})["data"]
            predicted, targets = file.get_tensor("predicted"), file.get_tensor("targets")
    except (SafetensorError, KeyError) as error:
        raise ArtifactError(f"{path} holds no predictions: {error}") from error
    if predicted.shape != targets.shape or targets.ndim != 1 or not len(targets):
        raise ArtifactError(f"{path} holds {predicted.shape} predictions for {targets.shape} targets")
    return Predictions(predicted.astype(np.int64), targets.astype(np.int64), data)
