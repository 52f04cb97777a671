"""What a pod reports decides what it may, and nothing else: it is never a label, a name, a command or an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.api.kinds import JOB, MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object, key_of
from slipway.api.tasks import DATA_ENV, TASK_ENV
from slipway.plan.deployment import plan_deployment
from slipway.plan.training import plan_training
from support.builders import DIGEST, model_deployment, plugins, pod, store, trained, training_job
from support.deployments import DIGITS
from support.world import Planner, World, does_its_work, env_of, task_of

MARK = "Evil7"
"""Is in every text of a hostile pod, and in nothing else."""
MOST_BYTES = 100_000
"""Of a status, whatever pods report: etcd takes 1.5 MB."""
TEXTS = st.sampled_from(
    [
        MARK,
        MARK * 2000,
        f"../../{MARK}",
        f"store:///{MARK}",
        f"store:///a/../../{MARK}",
        f"store:///a//{MARK}/",
        f"store:///{MARK}/.",
        f"sha256:{MARK}",
        f"\x00{MARK}\x1b[31m\r\n",
        f"\ud800{MARK}",
        f"$({MARK}) `{MARK}` ${{{MARK}}}; {MARK}",
        f'{MARK}", "x": "',
        f"\u202e{MARK}\U0001f4a9",
        f"slipway.dev/{MARK}",
        f"{MARK}: ValueError: {MARK}\n" * 200,
        f"Root Cause (first observed failure):\n[0]:\n  rank : {'9' * 23} ({MARK})\n  exitcode : -{'9' * 23} ()\n",
    ]
)
NUMBERS = st.sampled_from(
    [0, 1, -1, 2**31, 2**53, 2**63, 2**64, 2**70, -(2**70), 1e308, 0.5, float("nan"), float("inf"), float("-inf")]
)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
DEEP = '{"outcome":' * 900 + "1" + "}" * 900
TIMES = st.sampled_from(["2026-03-01T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1e18])


def near(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    """Objects with these fields, where one may be missing or hold anything."""
    return st.fixed_dictionaries({}, optional={name: value | value | JUNK for name, value in fields.items()})


COUNT = st.integers(0, 600) | NUMBERS
SLICE = near(name=TEXTS.map(lambda text: text[:63]), n=COUNT, lost=COUNT, gained=COUNT)
REPORT = near(
    outcome=st.sampled_from(["succeeded", "failed", "none"]),
    at=TIMES,
    error=near(exception=TEXTS, message=TEXTS, rank=NUMBERS, exitCode=NUMBERS),
    artifact=near(
        uri=TEXTS, digest=st.just(DIGEST), state=st.sampled_from(["module", "onnx", "repository"]), sizeBytes=NUMBERS
    ),
    metrics=st.dictionaries(TEXTS.map(lambda text: text[:48]), NUMBERS, max_size=17),
    counts=near(n=COUNT, baselineRight=COUNT, lost=COUNT, gained=COUNT, slices=st.lists(SLICE, max_size=17)),
)
LIE = st.fixed_dictionaries(
    {
        "outcome": st.just("succeeded"),
        "at": TIMES,
        "artifact": st.fixed_dictionaries({"uri": TEXTS, "digest": st.just(DIGEST), "state": st.just("onnx")}),
    },
    optional={"metrics": st.dictionaries(TEXTS.map(lambda text: text[:48]), NUMBERS, max_size=3)},
)
"""A report that is well made, of something else."""
RAW = TEXTS.map(lambda text: text.encode(errors="replace").decode())  # the API server's answers are UTF-8
FILE = st.fixed_dictionaries({"message": st.fixed_dictionaries({"message": TEXTS}, optional={"errorCode": NUMBERS})})
"""An error file of torchrun's."""
WORDS = st.one_of(*(kind.map(json.dumps) for kind in (REPORT, LIE, JUNK, FILE)), RAW, st.just(DEEP))
"""Termination messages, as a container may write them."""
LAST = st.none() | st.tuples(st.integers(0, 255), WORDS)
"""How a Job's pod ends: as it should, or with that exit code and those words."""


DECLARED = frozenset({TASK_ENV, DATA_ENV})
"""Variables of pods in which the place of a reported artifact may stand, as JSON; mounts are the other places."""


def clean(manifest: Object) -> None:
    """Nothing of a report is in it but the place of an artifact, which is inside the store."""
    said, places = _parted(manifest)
    assert MARK not in json.dumps(said)
    for place in places:
        assert "/../" not in f"{place}/"
        assert place.isascii()
        assert place.isprintable()
        assert len(place) < 4096


def _parted(value: Any) -> tuple[Any, list[str]]:
    """What a manifest says, and every string of its declared places."""
    if isinstance(value, dict) and value.get("name") in DECLARED:
        return {}, list(_strings(json.loads(value["value"])))
    if isinstance(value, dict) and "mountPath" in value:  # what a task reads is mounted by its place
        return {}, list(_strings(value))
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        parts = {key: _parted(inner) for key, inner in items}
        return {key: said for key, (said, _) in parts.items()}, [one for _, found in parts.values() for one in found]
    return value, []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(inner)


def honest(job: Object) -> str:
    """What a pod of ours reports; one of a user's image says nothing."""
    return json.dumps(does_its_work(task_of(job), job)) if TASK_ENV in env_of(job) else ""


class HostileWorld(World):
    """Holds every manifest and every status to what may become of a report. ends: of the Jobs' pods, in turn."""

    def __init__(self, planner: Planner, *objects: Object, ends: list[tuple[int, str] | None]) -> None:
        super().__init__(planner, *objects)
        self._ends = cycle(ends)

    def step(self) -> bool:
        open_jobs = [job for job in self._sorted(JOB) if not job.get("status", {}).get("conditions")]
        for job in open_jobs:
            code, words = next(self._ends) or (0, honest(job))
            self.put(pod(job, exit_code=code, message=words, at=self.now))
            ended = {"type": "Failed" if code else "Complete", "status": "True", "reason": "", "message": ""}
            self.set_status(key_of(job), {"conditions": [ended]})
        return super().step() or bool(open_jobs)

    def _log(self, verb: str, obj: Object) -> None:
        super()._log(verb, obj)
        if verb in ("create", "apply"):
            clean(obj)

    def set_status(self, key: Key, status: Object) -> None:
        if key.kind in (TRAINING_JOB, MODEL_DEPLOYMENT):
            sent = orjson.dumps(status)  # as the operator sends it: no integer over 64 bits, NaN as null
            assert len(sent) < MOST_BYTES
            assert orjson.loads(sent) == status
            assert all(len(one["reason"]) <= 128 and MARK not in one["reason"] for one in status["conditions"])
        super().set_status(key, status)

    def runs_for_a_while(self, key: Key) -> None:
        """Long enough for every restart and every try."""
        for _ in range(40):
            self.settle(key)
            if not self.step():
                if self.wake_at is None:
                    return
                self.now = max(self.wake_at, self.now)


PLENTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PLENTY
@given(st.lists(LAST, min_size=1, max_size=8))
def test_whatever_the_pods_of_a_deployment_report_it_is_only_a_report(ends: list[tuple[int, str] | None]) -> None:
    world = HostileWorld(plan_deployment, model_deployment(), trained(), store(), *plugins(), ends=ends)
    world.runs_for_a_while(DIGITS)


@PLENTY
@given(st.lists(LAST, min_size=1, max_size=8), st.booleans())
def test_whatever_the_pods_of_a_training_report_it_is_only_a_report(
    ends: list[tuple[int, str] | None], own_image: bool
) -> None:
    own = {"image": "mine:1", "entrypoint": {"script": {"path": "/train.py"}}} if own_image else {}
    obj = training_job(data=[{"name": "train", "dataset": "digits"}], restarts={"max": 2, "backoff": "1s"}, **own)
    world = HostileWorld(plan_training, obj, store(), ends=ends)
    world.runs_for_a_while(key_of(obj))
