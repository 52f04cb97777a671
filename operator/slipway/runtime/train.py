"""The task `train`: torchrun in this very process, so that its signals, errors and end are the pod's own.

Agents meet by c10d at the pod of index 0. When all have ended well, index 0 seals what rank 0 left in the output
folder. A failed worker ends the attempt (max_restarts 0): restarting is the planner's.
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

# A pod has 30 s from SIGTERM to SIGKILL: workers get most of it to save, and the report is written after them.
WORKER_GRACE_SECONDS = 20
# The agents meet in the process of index 0 and end with it. Where its workers were not the first to fail, it stays
# for so long that the others can tell what befell theirs.
LAST_WORDS_SECONDS = 5
LOCAL_ADDRESS_ENV = "PET_LOCAL_ADDR"
"""torchrun's own variable: the address of this node where it is not the pod's name. Agents are ranked by it."""


class RendezvousTimeout(SlipwayError):
    """The agents of an attempt did not meet in time: not all of its pods run, or they do not reach each other."""


def run(task: TrainTask, pod: Pod) -> Report:
    """Raises WorkerFailed, Terminated, SpecError for a recipe that cannot work, ArtifactError for data and output."""
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
    """Refuse before anything is started what cannot work. Raises SpecError."""
    world_size = task.nodes * task.processes_per_node
    recipe = task.entrypoint.recipe
    if recipe is not None and recipe.batch_size < world_size:
        raise SpecError(
            "spec.entrypoint.recipe.batchSize",
            f"{recipe.batch_size} samples cannot be split over {world_size} ranks",
            f"raise it to {world_size} or more, or lower spec.nodes or spec.processesPerNode",
        )


def worker_environment(data: dict[str, Path], output: Path, threads: str | None) -> dict[str, str]:
    """What workers find in their environment besides torchrun's own variables.

    One thread a worker unless the user says otherwise: OpenMP sees the node's cores, not the container's share.
    """
    return {
        DATA_ENV: json.dumps({name: str(path) for name, path in data.items()}),
        OUTPUT_ENV: str(output),
        "OMP_NUM_THREADS": threads or "1",
        "PYTHONUNBUFFERED": "1",
    }


def await_host(rendezvous: Rendezvous, pause_seconds: float = 0.5) -> None:
    """Wait until the pod of index 0 listens, so that a signal is heard meanwhile (torch's own connect is deaf to it).

    Raises RendezvousTimeout when it does not within the rendezvous' time-out.
    """
    host, deadline = rendezvous.host, time.monotonic() + rendezvous.timeout_seconds
    print(f"meeting at {host}:{rendezvous.port}", flush=True)
    while True:
        try:
            socket.create_connection((host, rendezvous.port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RendezvousTimeout(
                    f"the pod of index 0 did not listen at {host}:{rendezvous.port} within "
                    f"{rendezvous.timeout_seconds} s ({error}); is it scheduled, and does its image start?"
                ) from error
        time.sleep(pause_seconds)


def own_address(host: str, index: int) -> str:
    """This pod's name, by that of index 0: `job-0.service` -> `job-2.service`. A plain host is everybody's.

    Agents are ranked by it, so the pod of index 0 gets rank 0: its name sorts first.
    """
    return re.sub(r"^([^.]*-)0(?=\.|$)", rf"\g<1>{index}", host)


def launch_config(task: TrainTask, pod: Pod) -> LaunchConfig:
    """What `torchrun --rdzv-backend=c10d --max-restarts=0 ...` would be told."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    from slipway.runtime import loopback

    meet = task.rendezvous
    if meet.host is None:
        endpoint, address = str(pod.scratch / f"rendezvous-{meet.id}"), LOOPBACK
        met: dict[str, Any] = {"store_type": "file"}
    else:
        endpoint, address = f"{meet.host}:{meet.port}", own_address(meet.host, pod.index)
        met = {"is_host": pod.index == 0, "read_timeout": 60}
    return LaunchConfig(
        min_nodes=task.nodes,
        max_nodes=task.nodes,
        nproc_per_node=task.processes_per_node,
        run_id=meet.id,
        role="worker",
        rdzv_backend=loopback.register(),
        rdzv_endpoint=endpoint,
        rdzv_configs={"timeout": meet.timeout_seconds, **met},
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
            signal.signal(signal.SIGTERM, ours)  # torch leaves its own, which would hide that SIGTERM ended the rest
    except ChildFailedError as error:
        failure = first_failure(worker_end(rank, found) for rank, found in error.failures.items())
        if is_consequence(failure.error) and pod.index == 0 and task.nodes > 1:
            with contextlib.suppress(Terminated):  # what failed is what there is to tell
                time.sleep(LAST_WORDS_SECONDS)
        raise failure from None
    except SignalException as error:
        raise Terminated(error.sigval) from None
    except RendezvousTimeoutError as error:
        raise RendezvousTimeout(
            f"{task.nodes} pods did not meet within {task.rendezvous.timeout_seconds} s; "
            "are all of them scheduled, and may they reach each other?"
        ) from error
    except RendezvousError as error:
        message = f"the pod of index 0 ended or cannot be reached ({error})"
        raise WorkerFailed(ErrorReport(exception=PEER_LOST, message=message), datetime.now(UTC)) from error


def worker_end(rank: int, failure: Any) -> WorkerEnd:
    """A torchrun ProcessFailure as data."""
    return WorkerEnd(
        rank=rank,
        exit_code=failure.exitcode,
        at=datetime.fromtimestamp(failure.timestamp, UTC),
        data=failure.error_file_data,
    )
