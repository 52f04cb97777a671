"""Runs of a compression plugin on this machine, in processes of its own; none of them outlives the check."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from slipway.api.errors import Finding, SlipwayError
from slipway.api.reports import shorten
from slipway.local.processes import start
from slipway.sdk.artifact import Artifact, write_artifact
from slipway.sdk.contract import import_finding
from slipway.sdk.plugin import Compression
from slipway.sdk.plugincheck import DATA, MODELS, CheckOrder, CheckRun, ModelResult, run_findings

OWN_MODEL = "model"
LOG_LINES, SHOWN = 20, 1024
"""Limits of the end of a log in a message: lines, and characters; the middle of a longer text is left out."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of a plugin check. model: the user's own, and data that fits it; None for built-in ones."""

    params: dict[str, Any] = field(default_factory=dict)
    model: Artifact | None = None
    data: Artifact | None = None
    timeout_seconds: float | None = None
    """Time limit for each process; None for no limit."""


async def run_python(
    arguments: Sequence[str], folder: Path, *, hash_seed: int = 0, timeout_seconds: float | None = None
) -> str:
    """Run this Python in `folder/work`, and return why it failed; an empty text if it succeeded.

    The process and all that it started have ended when this returns or is cancelled.
    """
    work, temporary, log = folder / "work", folder / "tmp", folder / "log"
    for place in (work, temporary):
        place.mkdir(parents=True)
    path = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(hash_seed),
        "PYTHONPATH": os.pathsep.join(path),
        "TMPDIR": str(temporary),
        "PYTHONFAULTHANDLER": "1",  # a crash in a library's C code leaves a traceback
    }
    group = await start([sys.executable, "-P", *arguments], environment, work, log)
    try:
        async with asyncio.timeout(timeout_seconds):
            code = await group.wait()
    except TimeoutError:
        return f"it did not end within {timeout_seconds:g} s"
    finally:
        await group.kill_and_wait()
    if code == 0:
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"its process {_describe_exit(code)}: {shorten(' | '.join(lines[-LOG_LINES:]), SHOWN) or 'it wrote nothing'}"


async def run_twice(run: Callable[[int, Path], Coroutine[Any, Any, ResultT]], folder: Path) -> tuple[ResultT, ResultT]:
    """Run twice at once. run: takes a hash seed and a folder of its own."""
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(run(number, folder / f"run-{number}")) for number in (1, 2))
    return first.result(), second.result()


async def check_imports(plugin: str, folder: Path, timeout_seconds: float | None = None) -> Finding:
    """Check which modules the import of the plugin's module loads."""
    result = folder / "imported"
    arguments = ["-m", "slipway.sdk.imports", plugin, str(result)]
    if why := await run_python(arguments, folder / "imports", timeout_seconds=timeout_seconds):
        return Finding("import", "fail", why, "import only slipway.sdk, pydantic and other light modules at the top")
    return import_finding(result.read_text().split())


async def check_runs(plugin: Compression[Any], folder: Path, options: CheckOptions) -> list[Finding]:
    """Run the plugin twice on each model, and compare the results. folder: an empty one, for models and results.

    Raises SlipwayError if the models cannot be made.
    """
    store, data = folder / "store", plugin.needs_data or options.data is not None
    await _write_artifacts(plugin, store, options, data=data)
    models = (OWN_MODEL,) if options.model else tuple(MODELS)
    order = CheckOrder(plugin=plugin.name, params=options.params, store=str(store), models=models, data=data)
    order_file = folder / "order.json"
    order_file.write_text(order.model_dump_json(), encoding="utf-8")  # an argument has at most 128 KiB

    async def run(number: int, place: Path) -> CheckRun:
        result = folder / f"result-{number}"
        arguments = ["-m", "slipway.runtime.plugincheck", "run", str(order_file), str(result)]
        why = await run_python(arguments, place, hash_seed=number, timeout_seconds=options.timeout_seconds)
        lines = result.read_text().splitlines() if result.exists() else []
        found = [ModelResult.model_validate_json(line) for line in lines]
        return CheckRun({one.model: one for one in found}, why)

    first, second = await run_twice(run, folder)
    return run_findings(plugin, models, first, second)


async def _write_artifacts(plugin: Compression[Any], store: Path, options: CheckOptions, *, data: bool) -> None:
    """Copy the user's artifacts into the store, and make the models and data that are missing."""
    for name, artifact in ((OWN_MODEL, options.model), (DATA, options.data)):
        if artifact is not None:
            files: dict[str, Path | bytes] = {path: artifact.file(path) for path in artifact.content.files}
            write_artifact(store / name / "artifact", artifact.content, files)
    if options.model is not None and (options.data is not None or not data):
        return
    state = "none" if options.model is not None else str(plugin.consumes)
    arguments = ["-m", "slipway.runtime.plugincheck", "models", str(store), state]
    if why := await run_python(arguments, store.parent / "models", timeout_seconds=options.timeout_seconds):
        raise SlipwayError(f"the models of the check cannot be made: {why}")


def _describe_exit(code: int) -> str:
    """Describe a shell's exit code: 128 + N after signal N."""
    try:
        return f"was ended by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"ended with code {code}"
