"""The stand-in for the Job controller makes of Jobs and pods what the real one does, as far as planners read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slipway.api.kinds import Object
from slipway.local.controllers import intervals, sync_job
from slipway.plan.jobs.outcomes import conditions_of, indices_of, job_end
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


def a_job(pods: int = 2, *, fail_by_index: bool = False) -> Object:
    template = {"metadata": {"labels": {"team": "vision"}}, "spec": {"containers": [{"name": "main", "env": []}]}}
    made = job_of(PARENT, "digits-1", template, role="train", pods=pods, fail_by_index=fail_by_index)
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


DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]


def test_an_index_whose_pod_is_disrupted_fails_alone_and_gets_no_other_pod():
    job = a_job(3, fail_by_index=True)
    pods = pods_of(job, None, "Failed", None)
    pods[1]["status"]["conditions"] = DISRUPTED
    writes = sync_job(job, pods, NOW)
    assert (writes.create, writes.delete) == ((), ())
    assert (writes.status["failedIndexes"], writes.status["completedIndexes"]) == ("1", "")
    assert "conditions" not in writes.status
    later = sync_job({**job, "status": writes.status}, [pods[0], pods[2]], NOW)
    assert (later.status["failedIndexes"], later.create) == ("1", ())


def test_a_job_with_a_failed_index_fails_when_all_others_have_ended():
    job = a_job(3, fail_by_index=True)
    pods = pods_of(job, "Succeeded", "Failed", "Succeeded")
    pods[1]["status"]["conditions"] = DISRUPTED
    status = sync_job(job, pods, NOW).status
    assert conditions_of({"status": status})["Failed"]["reason"] == "FailedIndexes"
    assert status["completedIndexes"] == "0,2"


def test_a_pod_that_exits_with_an_error_fails_a_job_of_indices_as_a_whole():
    job = a_job(3, fail_by_index=True)
    pods = pods_of(job, None, "Failed", None)
    writes = sync_job(job, pods, NOW)
    failing = conditions_of({"status": writes.status})["FailureTarget"]
    assert failing["reason"] == "PodFailurePolicy"
    name = pods[1]["metadata"]["name"]
    said = f"Container main for pod default/{name} failed with exit code 1 matching FailJob rule at index 1"
    assert failing["message"] == said
    assert len(writes.delete) == 2


def test_indices_are_written_as_the_job_controller_writes_them():
    assert intervals({0, 1, 3, 4, 5, 9}) == "0,1,3-5,9"
    assert intervals(()) == ""
    assert indices_of({"status": {"failedIndexes": "0,1,3-5,9"}}, "failedIndexes") == {0, 1, 3, 4, 5, 9}
