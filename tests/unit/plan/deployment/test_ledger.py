"""Which task records are forgotten, and what of them first."""

from __future__ import annotations

from slipway.api.kinds import JOB, Key
from slipway.api.status import TaskRecord
from slipway.plan.deployment.ledger import pruned
from slipway.plan.digests import short
from slipway.plan.parent import Parent
from slipway.plan.seen import Snapshot
from support.builders import DIGEST, NAMESPACE, job, model_deployment

OWNER = model_deployment()
PARENT = Parent.of(OWNER)
NAME = PARENT.child_name("t", short(DIGEST, 8), "1")
RECORD = TaskRecord(name="compare", digest=DIGEST, job=NAME)


def test_a_record_that_nobody_wants_stays_until_its_jobs_are_gone() -> None:
    live = job(NAME, owner=OWNER)
    records, plan = pruned(PARENT, (RECORD,), (), None, Snapshot((live,)))
    assert records == (RECORD,)
    assert [one.key.name for one in plan.delete] == [NAME]


def test_before_a_record_is_forgotten_its_job_is_looked_for_though_none_is_seen() -> None:
    records, plan = pruned(PARENT, (RECORD,), (), None, Snapshot())
    assert records == ()
    assert plan.gone == (Key(JOB, NAMESPACE, NAME),)
