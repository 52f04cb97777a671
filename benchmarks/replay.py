"""The replaying client as a process of its own, as the operator is one: `python -m benchmarks.replay`.

It says `ready` when it watches; then it makes the recorded writes for each TrainingJob that appears, so many at a time.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

from benchmarks.client import client_of
from benchmarks.recording import load
from slipway.api.kinds import TRAINING_JOB, Object
from slipway.cluster.apiserver import collection_path
from support.apiserver import connect


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--workers", type=int, required=True)
    given = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_replay(given.kubeconfig, given.recordings, given.namespace, given.workers))


async def _replay(kubeconfig: Path, recordings_file: Path, namespace: str, workers: int) -> None:
    recordings = load(recordings_file)
    queue: asyncio.Queue[Object] = asyncio.Queue()
    async with client_of(connect(kubeconfig)) as client, asyncio.TaskGroup() as group:

        async def work() -> None:
            while True:
                obj = await queue.get()
                await recordings[obj["metadata"]["name"]].replay(client, obj)

        for _ in range(workers):
            group.create_task(work())
        async with client.watch(collection_path(TRAINING_JOB, namespace)) as events:
            print("ready", flush=True)
            async for kind, obj in events:
                if kind == "ADDED":
                    queue.put_nowait(obj)


if __name__ == "__main__":
    main()
