"""Requests to Triton by tritonclient: what is served, and the answers with their times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any

import aiohttp

from slipway.cli.rendering.errors import UNAVAILABLE, CommandError

if TYPE_CHECKING:
    from numpy.typing import NDArray

REQUEST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Served:
    """The one model that a Triton serves. dims: of the input, without the batch."""

    name: str
    version: str
    input_name: str
    datatype: str
    dims: tuple[int, ...]
    output_name: str
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Answers:
    """outputs: [N, ...] of the model's first output; seconds: of each request, as the client saw it."""

    outputs: NDArray[Any]
    seconds: list[float]
    total_seconds: float


def library_of(protocol: str) -> Any:
    """tritonclient's asynchronous module of a protocol. Raises CommandError if it is not installed."""
    try:
        return import_module(f"tritonclient.{protocol}.aio")
    except ImportError as error:
        raise CommandError(f"predict needs {error.name}: pip install 'slipway-operator[client]'") from error


@asynccontextmanager
async def connected(address: str, protocol: str) -> AsyncIterator[TritonClient]:
    """Open a client. Refusals of the server and broken connections are CommandErrors."""
    library = library_of(protocol)
    from tritonclient.utils import InferenceServerException

    client = library.InferenceServerClient(address)
    try:
        yield TritonClient(client, library, protocol)
    except InferenceServerException as error:
        raise CommandError(f"{address}: {error}", UNAVAILABLE) from error
    except aiohttp.ClientResponseError as error:
        raise CommandError(f"{address}: the answer is not HTTP; check the port and --protocol", UNAVAILABLE) from error
    except (aiohttp.ClientError, OSError) as error:
        raise CommandError(f"{address}: {error or type(error).__name__}", UNAVAILABLE) from error
    finally:
        await client.close()


class TritonClient:
    """One asynchronous client; both protocols have the same methods."""

    def __init__(self, client: Any, library: Any, protocol: str) -> None:
        self._client = client
        self._library = library
        self._json = {"as_json": True} if protocol == "grpc" else {}
        self._limits = {"client_timeout": REQUEST_SECONDS} if protocol == "grpc" else {}  # HTTP's is the session's 60 s

    async def served(self, name: str | None = None) -> Served:
        """Return the model of that name, or the only one. Raises CommandError for none, or several inputs."""
        name = name or await self._only_model()
        metadata = await self._client.get_model_metadata(name, **self._json)
        config = await self._client.get_model_config(name, **self._json)
        config = config.get("config", config)
        if len(metadata["inputs"]) != 1:
            raise CommandError(f"model {name!r} has {len(metadata['inputs'])} inputs; predict supports one")
        taken = metadata["inputs"][0]
        batch = int(config.get("max_batch_size", 0))
        shape = tuple(int(size) for size in taken["shape"])
        return Served(
            name=name,
            version=metadata["versions"][-1],
            input_name=taken["name"],
            datatype=taken["datatype"],
            dims=shape[1:] if batch else shape,
            output_name=metadata["outputs"][0]["name"],
            max_batch_size=batch,
        )

    async def _only_model(self) -> str:
        from tritonclient.utils import InferenceServerException

        try:
            index = await self._client.get_model_repository_index(**self._json)
        except InferenceServerException as error:
            if "restricted" not in str(error):
                raise
            raise CommandError("the server does not list its models; use --model") from error
        models = index["models"] if isinstance(index, dict) else index
        ready = sorted({model["name"] for model in models if model.get("state", "READY") == "READY"})
        if len(ready) != 1:
            raise CommandError(
                f"the server has {', '.join(ready) or 'no model'}; use --model to select one", UNAVAILABLE
            )
        return str(ready[0])

    async def predict(self, model: Served, inputs: NDArray[Any], batch_size: int) -> Answers:
        """Send requests of batch_size samples one after another over one connection."""
        import numpy as np
        from tritonclient.utils import triton_to_np_dtype

        rows = np.ascontiguousarray(inputs, dtype=triton_to_np_dtype(model.datatype))
        outputs, seconds = [], []
        begun = perf_counter()
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            tensor = self._library.InferInput(model.input_name, list(batch.shape), model.datatype)
            tensor.set_data_from_numpy(batch)
            sent = perf_counter()
            answer = await self._client.infer(model.name, [tensor], **self._limits)
            seconds.append(perf_counter() - sent)
            outputs.append(answer.as_numpy(model.output_name))
        return Answers(np.concatenate(outputs), seconds, perf_counter() - begun)
