"""Which task records are forgotten, and what of them first."""

from __future__ import annotations

from slipway.api.kinds import JOB, Key
from slipway.api.status import TaskRecord
from slipway.plan.deployment.ledger import pruned
from slipway.plan.parent import Parent
from slipway.plan.seen import Snapshot
from slipway.plan.tasks import job_name
from support.builders import DIGEST, NAMESPACE, job, model_deployment

OWNER = model_deployment()
PARENT = Parent.of(OWNER)
NAME = job_name(PARENT, DIGEST, 1)
OTHER = f"sha256:{'0' * 64}"
RECORD = TaskRecord(name="compare", digest=DIGEST, job=NAME)


def test_a_record_that_nobody_wants_stays_until_its_jobs_are_gone() -> None:
    live = job(NAME, owner=OWNER)
    records, plan = pruned(PARENT, (RECORD,), (), (), Snapshot((live,)))
    assert records == (RECORD,)
    assert [one.key.name for one in plan.delete] == [NAME]


def test_every_try_of_what_nobody_wants_goes_and_nothing_else() -> None:
    names = [*(job_name(PARENT, DIGEST, tries) for tries in (1, 9, 10, 120)), f"{NAME}-q2"]
    others = [job_name(PARENT, OTHER, 1), PARENT.child_name("1")]
    live = [job(name, owner=OWNER) for name in (*names, *others)]
    _, plan = pruned(PARENT, (RECORD,), (), (), Snapshot(live))
    assert {one.key.name for one in plan.delete} == set(names)


def test_before_a_record_is_forgotten_its_job_is_looked_for_though_none_is_seen() -> None:
    records, plan = pruned(PARENT, (RECORD,), (), (), Snapshot())
    assert records == ()
    assert plan.gone == (Key(JOB, NAMESPACE, NAME),)
