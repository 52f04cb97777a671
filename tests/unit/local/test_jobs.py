"""The stand-in for the Job controller makes of Jobs and pods what the real one does, as far as planners read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slipway.api.kinds import Object
from slipway.local.controllers import sync_job
from slipway.plan.jobs.outcomes import conditions_of, job_end
from slipway.plan.jobs.pods import INDEX_ANNOTATION
from slipway.plan.owner import Owner
from slipway.plan.pods import job as job_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PARENT = Owner.of(
    {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits", "namespace": "default", "uid": "parent", "generation": 1},
    }
)


def a_job(pods: int = 2) -> Object:
    template = {"metadata": {"labels": {"team": "vision"}}, "spec": {"containers": [{"name": "main", "env": []}]}}
    made = job_of(PARENT, "digits-1", template, role="train", pods=pods)
    made["metadata"] |= {"uid": "job", "resourceVersion": "1"}
    return made


def pods_of(job: Object, *ends: str | None) -> list[Object]:
    """The pods that the controller makes, each in that phase (None: it runs)."""
    made = sync_job(job, [], NOW).create
    return [
        {**pod, "status": {"phase": end or "Running", "containerStatuses": [_container(end)]}}
        for pod, end in zip(made, ends, strict=True)
    ]


def _container(end: str | None) -> Object:
    state = {"terminated": {"exitCode": int(end == "Failed")}} if end else {"running": {}}
    return {"name": "main", "state": state}


def test_each_index_gets_a_pod_that_knows_its_index_and_its_job():
    first, second = sync_job(a_job(), [], NOW).create
    assert first["metadata"]["name"].startswith("digits-1-0-")
    assert second["metadata"]["annotations"][INDEX_ANNOTATION] == "1"
    assert second["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == "job"
    assert second["metadata"]["labels"]["team"] == "vision"
    assert [variable["name"] for variable in second["spec"]["containers"][0]["env"]] == ["JOB_COMPLETION_INDEX"]


def test_pods_that_are_there_are_not_made_again():
    job = a_job()
    writes = sync_job(job, pods_of(job, None, None), NOW)
    assert not writes.create
    assert writes.status["active"] == 2


def test_a_job_is_complete_when_every_index_has_succeeded():
    job = a_job()
    status = sync_job(job, pods_of(job, "Succeeded", "Succeeded"), NOW).status
    assert conditions_of({"status": status}).keys() == {"SuccessCriteriaMet", "Complete"}
    assert status["succeeded"] == 2


def test_when_one_pod_fails_the_others_are_deleted_and_the_job_has_failed_only_when_they_are_gone():
    job = a_job()
    failed, running = pods_of(job, "Failed", None)
    writes = sync_job(job, [failed, running], NOW)
    assert [pod["metadata"]["name"] for pod in writes.delete] == [running["metadata"]["name"]]
    assert conditions_of({"status": writes.status}).keys() == {"FailureTarget"}
    over = sync_job({**job, "status": writes.status}, [failed], NOW)
    assert conditions_of({"status": over.status})["Failed"]["reason"] == "BackoffLimitExceeded"
    assert not over.create


def test_a_job_whose_deadline_has_passed_fails_and_its_pods_are_deleted():
    job = a_job(pods=1)
    job["spec"]["activeDeadlineSeconds"] = 60
    pods = pods_of(job, None)
    job["status"] = sync_job(job, pods, NOW).status
    assert not sync_job(job, pods, NOW + timedelta(seconds=59)).delete
    late = sync_job(job, pods, NOW + timedelta(seconds=60))
    assert [pod["metadata"]["name"] for pod in late.delete] == [pods[0]["metadata"]["name"]]
    over = sync_job({**job, "status": late.status}, [], NOW + timedelta(seconds=61))
    end = job_end({**job, "status": over.status}, [])
    assert end is not None
    assert end.failure is not None
    assert end.failure.reason == "DeadlineExceeded"


def test_a_disrupted_pod_fails_the_job_by_its_policy_which_the_planner_reads_as_preemption():
    job = a_job(pods=1)
    (pod,) = pods_of(job, "Failed")
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
    status = sync_job(job, [pod], NOW).status
    end = job_end({**job, "status": status}, [pod])
    assert end is not None
    assert end.failure is not None
    assert end.failure.reason == "Preempted"


def test_a_suspended_job_makes_no_pods():
    job = a_job()
    job["spec"]["suspend"] = True
    assert not sync_job(job, [], NOW).create
