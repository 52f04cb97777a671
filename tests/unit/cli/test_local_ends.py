"""How `slipway run` ends: what is refused does not take away what serves."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from pathlib import Path

import pytest

from slipway.api.kinds import SERVICE, Key, Object, key_of
from slipway.cli.commands import local_run
from slipway.cli.commands.local_run import RunOptions, View
from slipway.cluster.twin import Twin
from slipway.local.state import StateFolder
from support import statuses
from support.builders import T0
from support.statuses import condition


def named(obj: Object, name: str, *, available: bool | None = None) -> Object:
    obj = copy.deepcopy(obj)
    obj["metadata"] |= {"name": name, "uid": f"uid-of-{name}"}
    if available is not None:
        obj["status"]["conditions"].append(condition("Available", str(available), "x"))
    return obj


def serving(name: str) -> Object:
    return named(statuses.serving_deployment(), name, available=True)


def refused(name: str, *, available: bool = False) -> Object:
    stalled = statuses.stalled("GateRefused", "accuracy fell")
    return named(statuses.deployment("Degraded", stalled), name, available=available)


def waiting(name: str) -> Object:
    return named(statuses.compressing_deployment(), name, available=False)


class Cluster:
    """As much of a LocalCluster as is looked at. addresses: a Service of each name, as planners make them early."""

    def __init__(self, *objects: Object) -> None:
        self.twin = Twin(lambda: T0)
        for obj in objects:
            self.twin.add(obj)
        self.active = [key_of(obj) for obj in objects]
        self.addresses = {
            (Key(SERVICE, key.namespace, key.name), "http"): f"127.0.0.1:{8000 + number}"
            for number, key in enumerate(self.active)
        }
        self.state = StateFolder(Path("/nonexistent"))


async def shown(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[int | str, list[str]]:
    """The exit code, "serves" where it goes on until it is told to end, and the lines; then the code after Ctrl-C."""
    said: list[str] = []

    class Screen:
        def __enter__(self) -> View:
            return View(lambda _objects: None, said.append)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(local_run, "view", Screen)
    monkeypatch.setattr(local_run, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr("slipway.cli.rendering.details.EVERY_SECONDS", 0.01)
    stop = asyncio.Event()
    given = RunOptions(Path("/nonexistent"), **options)  # type: ignore[arg-type]
    running = asyncio.create_task(local_run._show_until_ended(cluster, given, stop))
    for _ in range(100):
        if running.done():
            return running.result(), said
        if said and said[-1] == "stop with Ctrl-C":
            break
        await asyncio.sleep(0.02)
    stop.set()
    return f"serves, then {await running}", said


CASES: dict[str, tuple[Sequence[Object], dict[str, object], int | str]] = {
    "two refused beside four that serve": (
        [*map(serving, "abcd"), *map(refused, "ef")], {}, "serves, then 1",
    ),
    "all serve": ([serving("a"), serving("b")], {}, "serves, then 0"),
    "one whose newest spec is refused serves its last one": ([refused("a", available=True)], {}, "serves, then 1"),
    "all are refused": ([refused("a"), refused("b")], {}, 1),
    "only trained": ([statuses.finished_training()], {}, 0),
    "training failed": ([statuses.failed_training()], {}, 1),
    "training failed beside what serves": ([statuses.failed_training(), serving("a")], {}, "serves, then 1"),
    "once, all serve": ([serving("a")], {"once": True}, 0),
    "once, one refused beside one that serves": ([serving("a"), refused("b")], {"once": True}, 1),
    "one is under way": ([serving("a"), waiting("b")], {}, "serves, then 130"),
    "once, one is under way": ([refused("a"), waiting("b")], {"once": True}, "serves, then 130"),
}  # fmt: skip


@pytest.mark.parametrize(("objects", "options", "end"), CASES.values(), ids=CASES)
async def test_a_run_ends_when_nothing_serves_or_it_is_told_to(
    objects: Sequence[Object], options: dict[str, object], end: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = await shown(Cluster(*objects), monkeypatch, **options)
    assert code == end


async def test_each_model_is_named_with_its_address_as_soon_as_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [serving("a"), refused("b"), waiting("c")]
    _, said = await shown(Cluster(*objects), monkeypatch)
    assert [line for line in said if "answers at" in line] == ["modeldeployment/a answers at http 127.0.0.1:8000"]


async def test_what_is_stalled_is_named_beside_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = await shown(Cluster(serving("a"), refused("b")), monkeypatch)
    assert "Stalled, while other models serve: modeldeployment/b" in said
    assert said[-1] == "stop with Ctrl-C"
