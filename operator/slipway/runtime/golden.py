"""Golden requests: a few inputs and what the packed model itself answers to them.

The startup probe sends them to Triton, as JSON of KServe's v2 protocol, before a replica may take traffic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.api.errors import ArtifactError
from slipway.runtime.session import run_session
from slipway.runtime.triton import NUMPY_TYPES, Tensor

if TYPE_CHECKING:
    import onnxruntime

SAMPLES = 8
TOLERANCE = 1e-4
"""Of each value: the same graph in the same onnxruntime differs only by how a batch was joined, or by the processor."""
ROUNDING = 1e-6
"""Share of the largest value that float32 may lose in some eight roundings: above 100 it is more than TOLERANCE."""
ANY_SIZE = 8
"""Size of a free dimension in inputs that are made up."""


def golden_requests(
    name: str,
    session: onnxruntime.InferenceSession,
    outputs: Sequence[Tensor],
    samples: Mapping[str, NDArray[Any]],
    max_batch_size: int,
) -> bytes:
    """requests.json for the model of that name. samples: SAMPLES rows of each input.

    Raises ArtifactError where the model answers with NaN or infinity.
    """
    requests: list[dict[str, Any]] = []
    largest = 0.0
    for start, end in batches(SAMPLES, max_batch_size):
        fed = {key: rows[start:end] for key, rows in samples.items()}
        answers = run_session(session, fed)
        for tensor, answer in zip(outputs, answers, strict=True):
            if not np.isfinite(answer).all():
                raise ArtifactError(
                    f"the model answers {tensor.name} with NaN or infinity, for samples {start} to {end}"
                )
            largest = max(largest, float(np.abs(answer.astype(np.float64)).max(initial=0)))
        requests.append(
            {
                "inputs": [_tensor(key, rows) for key, rows in fed.items()],
                "outputs": [_tensor(tensor.name, answer) for tensor, answer in zip(outputs, answers, strict=True)],
            }
        )
    body = {"model": name, "tolerance": max(TOLERANCE, ROUNDING * largest), "requests": requests}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def batches(samples: int, max_batch_size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each request: one sample, then twice as many each time, up to what the server takes."""
    start, size = 0, 1
    while start < samples:
        end = min(start + size, samples)
        yield start, end
        start, size = end, min(size * 2, max_batch_size)


def made_up(inputs: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """The same inputs each time: floats from 0 to 1, integers 0 and 1."""
    random = np.random.default_rng(0)
    rows = {}
    for tensor in inputs:
        kind = NUMPY_TYPES[tensor.datatype]
        values = random.random((SAMPLES, *(ANY_SIZE if size < 0 else size for size in tensor.dims)))
        rows[tensor.name] = (values if np.issubdtype(kind, np.floating) else values > 0.5).astype(kind)
    return rows


def _tensor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    datatype = next(known for known, kind in NUMPY_TYPES.items() if array.dtype == kind)
    shape = array.shape if array.ndim > 1 else (*array.shape, 1)  # one value a sample travels as a column
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": array.reshape(-1).tolist()}
