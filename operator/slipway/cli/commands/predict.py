"""`slipway predict`: send samples to a served model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.commands.options import Context, Format, Local, Namespace, StateOption, complete_deployments
from slipway.cli.connections.connection import state_folder
from slipway.cli.rendering.tables import Output, Table, print_data, print_tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    import numpy as np
    from numpy.typing import NDArray

    from slipway.cli.commands.samples import Samples
    from slipway.cli.connections.connection import Connection
    from slipway.cli.connections.endpoints import Endpoint
    from slipway.cli.connections.triton import Answers


SHOWN = 10
"""Predictions in a table; JSON and YAML hold all."""


class Protocol(StrEnum):
    """Protocols of requests."""

    HTTP = "http"
    GRPC = "grpc"


def predict(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of the ModelDeployment. Not with --url.", autocompletion=complete_deployments),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Samples as the model sees them: .npy, .npz or .json."),
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="A built-in data set: digits.")] = None,
    split: Annotated[str, typer.Option("--split", help="Part of the data set: test (held out) or train.")] = "test",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Send at most N samples.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Number of samples in one request.")] = 1,
    protocol: Annotated[Protocol, typer.Option("--protocol", "-p", help="Protocol of requests.")] = Protocol.HTTP,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="HOST:PORT", help="Address of a Triton server, instead of that of a ModelDeployment."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="Name of the model at --url. Needed if the server does not list its models."
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE.npy", help="Write the model's raw outputs to this file, one row for each sample."
        ),
    ] = None,
    output: Format = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    local: Local = False,
    state: StateOption = None,
) -> None:
    """Send samples to a served model.

    Shows classes, probabilities and latency, and the accuracy if the true classes are known.

    Requests go to the Service of the ModelDeployment if this machine can connect to it, else through a port that is
    forwarded to a pod. Needs `pip install 'slipway-operator[client]'`; --dataset needs
    `slipway-operator[runtime]`.

    \b
    Examples:
      slipway predict digits --dataset digits --split test
      slipway predict digits --input images.npy --protocol grpc --output json
      slipway predict digits --local --dataset digits      a model of `slipway run` on this machine
      slipway predict --url 127.0.0.1:8000 --model digits --input images.npz
    """
    import asyncio

    if (file is None) == (dataset is None):
        raise typer.BadParameter("use either --input or --dataset")
    if (name is None) == (url is None):
        raise typer.BadParameter("use either the name of a ModelDeployment or --url")
    if model is not None and url is None:
        raise typer.BadParameter("--model works with --url only: the model of a ModelDeployment has its name")
    if url is not None and (local or state or namespace or context):
        raise typer.BadParameter("--url does not work with --local, --state, --namespace and --context")
    from slipway.cli.commands.samples import built_in, read_file
    from slipway.cli.connections import connect
    from slipway.cli.connections.triton import library_of

    library_of(str(protocol))
    samples = read_file(file) if file else built_in(dataset or "", split)
    opened = connect(context, namespace, state_folder(local=local, state=state, context=context))
    place = _endpoint(name, url, str(protocol), opened)
    facts = asyncio.run(_predict(place, model or _model_of(name), samples, str(protocol), batch_size, limit, save))

    if output is Output.TABLE:
        print_tables(score_tables(facts))
    else:
        print_data(facts, output)


async def _predict(
    endpoint: AbstractAsyncContextManager[Endpoint],
    model_name: str | None,
    samples: Samples,
    protocol: str,
    batch_size: int,
    limit: int | None,
    save: Path | None,
) -> dict[str, Any]:
    from slipway.cli.commands.samples import fitted
    from slipway.cli.connections.triton import connected

    async with endpoint as place, connected(place.address, protocol) as client:
        model = await client.served(model_name)
        inputs = fitted(samples.inputs, model.dims)[:limit]
        answers = await client.predict(model, inputs, min(batch_size, model.max_batch_size or 1))
    if save is not None:
        import numpy as np

        np.save(save, answers.outputs)
    facts = {"model": model.name, "version": model.version, "protocol": protocol, "via": place.via}
    targets = None if samples.targets is None else samples.targets[: len(inputs)]
    return {**facts, **scores(answers, targets)}


def _model_of(name: str | None) -> str | None:
    """Return the name of the model that a ModelDeployment serves, which is its own."""
    from slipway.cli.connections.resources import parse_target

    return parse_target(name).name if name else None


def _endpoint(
    name: str | None, url: str | None, protocol: str, opened: AbstractAsyncContextManager[Connection]
) -> AbstractAsyncContextManager[Endpoint]:
    from contextlib import asynccontextmanager

    from slipway.cli.connections.endpoints import Endpoint
    from slipway.cli.rendering.errors import USAGE, CommandError

    @asynccontextmanager
    async def place() -> AsyncIterator[Endpoint]:
        if url is not None:
            yield Endpoint(url.removeprefix("http://").removeprefix("grpc://").rstrip("/"), "the address of --url")
            return
        from slipway.api.kinds import MODEL_DEPLOYMENT
        from slipway.cli.connections.resources import Target, find_resources, parse_target

        target = parse_target(name or "")
        if MODEL_DEPLOYMENT not in target.kinds:
            raise CommandError(f"{name}: not a ModelDeployment; predict works with ModelDeployments only", USAGE)
        async with opened as connection:
            target = Target((MODEL_DEPLOYMENT,), target.name)
            (deployment,) = await find_resources(connection.cluster, connection.namespace, target)
            async with connection.endpoint(deployment, protocol) as endpoint:
                yield endpoint

    return place()


# --- Scores -------------------------------------------------------------------------------------------------------


def probabilities(outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return [N, classes]: the softmax of the scores, or the outputs themselves if each row is a distribution."""
    import numpy as np

    scores = outputs.reshape(len(outputs), -1).astype(np.float64)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def scores(answers: Answers, targets: NDArray[np.int64] | None) -> dict[str, Any]:
    """Return samples, accuracy (None without targets), latency_ms (p50, p99), requests_per_second and predictions."""
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


def score_tables(facts: dict[str, Any]) -> list[Table]:
    """Return the scores as tables, with `model`, `version`, `protocol` and `via`."""
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
