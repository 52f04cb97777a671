"""The task `train`: torchrun in this process, so that its signals, errors and end are the pod's own.

The rendezvous is c10d at the pod of index 0. When all agents have succeeded, index 0 seals the output of rank 0. A
failed worker ends the attempt (max_restarts 0): the planner decides about restarts.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.api.artifacts import State
from slipway.api.errors import SlipwayError, SpecError
from slipway.api.reports import PEER_LOST, ErrorReport, Report
from slipway.api.tasks import DATA_ENV, LOOPBACK, OUTPUT_ENV, Rendezvous, TrainTask
from slipway.runtime.failures import Terminated, WorkerEnd, WorkerFailed, first_failure, is_consequence
from slipway.runtime.pod import Pod
from slipway.runtime.seal import seal_output
from slipway.sdk.manifest import Provenance

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

# A pod has 30 s from SIGTERM to SIGKILL: workers get most of it for a checkpoint, and the report is written after them.
WORKER_GRACE_SECONDS = 20
# The process of index 0 hosts the rendezvous, and the other agents end with it. If its workers were not the first to
# fail, it waits this long, so that the others can report their failure.
REPORT_GRACE_SECONDS = 5
LOCAL_ADDRESS_ENV = "PET_LOCAL_ADDR"
"""torchrun's own variable: the address of this node if it is not the pod's name. Agents are ranked by it."""


class RendezvousTimeout(SlipwayError):
    """The rendezvous of an attempt timed out: not all of its pods run, or they cannot connect to each other."""


def run(task: TrainTask, pod: Pod) -> Report:
    """Train, and seal the output in the pod of index 0.

    Raises WorkerFailed, Terminated, SpecError for a recipe that cannot work, ArtifactError for data and output.
    """
    check(task)
    data = {ref.name: pod.read(ref.artifact, State.DATASET).path for ref in task.data}
    if pod.index == 0:
        pod.output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    os.environ.update(worker_environment(data, pod.output, os.environ.get("OMP_NUM_THREADS")))
    if pod.index > 0:
        await_host(task.rendezvous)
    launch(task, pod)
    seconds = time.monotonic() - started
    if pod.index > 0:
        return pod.succeeded()
    origin = Provenance(
        task="train",
        parents=tuple(ref.artifact.digest for ref in task.data),
        parameters=task.entrypoint.to_wire(),
        metrics={"train_seconds": round(seconds, 3)},
    )
    return seal_output(pod, origin)


def check(task: TrainTask) -> None:
    """Raise SpecError for a task that cannot work, before anything starts."""
    world_size = task.nodes * task.processes_per_node
    recipe = task.entrypoint.recipe
    if recipe is not None and recipe.batch_size < world_size:
        raise SpecError(
            "spec.entrypoint.recipe.batchSize",
            f"{recipe.batch_size} samples cannot be split over {world_size} ranks",
            f"raise it to {world_size} or more, or lower spec.nodes or spec.processesPerNode",
        )


def worker_environment(data: dict[str, Path], output: Path, threads: str | None) -> dict[str, str]:
    """Return the variables of workers besides torchrun's own.

    Each worker has one thread unless the user sets another number: OpenMP sees the node's cores, not the container's.
    """
    return {
        DATA_ENV: json.dumps({name: str(path) for name, path in data.items()}),
        OUTPUT_ENV: str(output),
        "OMP_NUM_THREADS": threads or "1",
        "PYTHONUNBUFFERED": "1",
    }


def await_host(rendezvous: Rendezvous, pause_seconds: float = 0.5) -> None:
    """Wait until the pod of index 0 listens, and handle signals meanwhile (torch's own connect does not).

    Raises RendezvousTimeout after the timeout of the rendezvous.
    """
    host, deadline = rendezvous.host, time.monotonic() + rendezvous.timeout_seconds
    print(f"waiting for the rendezvous at {host}:{rendezvous.port}", flush=True)
    while True:
        try:
            socket.create_connection((host, rendezvous.port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RendezvousTimeout(
                    f"the pod of index 0 did not listen at {host}:{rendezvous.port} within "
                    f"{rendezvous.timeout_seconds} s ({error}); check that it is scheduled and that its image starts"
                ) from error
        time.sleep(pause_seconds)


def own_address(host: str, index: int) -> str:
    """Return this pod's name, by that of index 0: `job-0.service` -> `job-2.service`. A plain host is returned as it
    is.

    Agents are ranked by it, so the pod of index 0 gets rank 0: its name sorts first.
    """
    return re.sub(r"^([^.]*-)0(?=\.|$)", rf"\g<1>{index}", host)


def launch_config(task: TrainTask, pod: Pod) -> LaunchConfig:
    """Return the configuration of `torchrun --rdzv-backend=c10d --max-restarts=0 ...`."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    from slipway.runtime import loopback

    rendezvous = task.rendezvous
    if rendezvous.host is None:
        endpoint, address = str(pod.scratch / f"rendezvous-{rendezvous.id}"), LOOPBACK
        options: dict[str, Any] = {"store_type": "file"}
    else:
        endpoint, address = f"{rendezvous.host}:{rendezvous.port}", own_address(rendezvous.host, pod.index)
        options = {"is_host": pod.index == 0, "read_timeout": 60}
    return LaunchConfig(
        min_nodes=task.nodes,
        max_nodes=task.nodes,
        nproc_per_node=task.processes_per_node,
        run_id=rendezvous.id,
        role="worker",
        rdzv_backend=loopback.register(),
        rdzv_endpoint=endpoint,
        rdzv_configs={"timeout": rendezvous.timeout_seconds, **options},
        max_restarts=0,
        local_addr=os.environ.get(LOCAL_ADDRESS_ENV) or address,
        logs_specs=DefaultLogsSpecs(log_dir=str(pod.scratch / "torchrun")),
        shutdown_timeout=WORKER_GRACE_SECONDS,
    )


def launch(task: TrainTask, pod: Pod) -> None:
    """Run the workers to their end. Raises WorkerFailed, Terminated, or RendezvousTimeout."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError, RendezvousTimeoutError
    from torch.distributed.launcher.api import elastic_launch

    config = launch_config(task, pod)
    ours = signal.getsignal(signal.SIGTERM)
    try:
        try:
            elastic_launch(config, sys.executable)("-m", "slipway.runtime.worker")
        finally:
            signal.signal(signal.SIGTERM, ours)  # torch leaves its own handler, which would hide a later SIGTERM
    except ChildFailedError as error:
        failure = first_failure(worker_end(rank, found) for rank, found in error.failures.items())
        if is_consequence(failure.error) and pod.index == 0 and task.nodes > 1:
            with contextlib.suppress(Terminated):  # the failure is reported in any case
                time.sleep(REPORT_GRACE_SECONDS)
        raise failure from None
    except SignalException as error:
        raise Terminated(error.sigval) from None
    except RendezvousTimeoutError as error:
        raise RendezvousTimeout(
            f"the rendezvous of {task.nodes} pods timed out after {task.rendezvous.timeout_seconds} s; "
            "check that all of them are scheduled and can connect to each other"
        ) from error
    except RendezvousError as error:
        message = f"the pod of index 0 ended or cannot be reached ({error})"
        raise WorkerFailed(ErrorReport(exception=PEER_LOST, message=message), datetime.now(UTC)) from error


def worker_end(rank: int, failure: Any) -> WorkerEnd:
    """Return a torchrun ProcessFailure as data."""
    return WorkerEnd(
        rank=rank,
        exit_code=failure.exitcode,
        at=datetime.fromtimestamp(failure.timestamp, UTC),
        data=failure.error_file_data,
    )
