"""A planner for tests of the loop alone: a TrainingJob becomes, intent first, a Service and a Job."""

from __future__ import annotations

from slipway.api.kinds import JOB, SERVICE, TRAINING_JOB, Object
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import EventRecord, Plan, Settings


def plan_stub(obj: Object, observation: Observation) -> Plan:
    """Pending -> (Service, Job) -> Running -> Succeeded or Failed, as the Job's conditions say."""
    owner = Owner.of(obj)
    status = obj.get("status", {})
    name = owner.child_name("1")
    observed = {"observedGeneration": owner.generation}
    if status.get("phase") is None:
        pending = {**observed, "phase": "Pending", "attempts": [_attempt(name)]}
        return Plan(status=pending, events=(EventRecord("Normal", "Started", f"attempt 1 of {owner.name}"),))
    if status["phase"] in ("Succeeded", "Failed"):
        return Plan()
    job = owner.own(observation.view, JOB, name)
    service = (_service(owner, name),)
    if job is None:
        return Plan(apply=service, create=(_job(owner, name, observation.settings),))
    phase = next(
        (
            {"Complete": "Succeeded", "Failed": "Failed"}[condition["type"]]
            for condition in job.get("status", {}).get("conditions", ())
            if condition["status"] == "True" and condition["type"] in ("Complete", "Failed")
        ),
        "Running",
    )
    attempt = {**_attempt(name), "jobUID": job["metadata"]["uid"]}
    return Plan(apply=service, status={**observed, "phase": phase, "attempts": [attempt]})


PLANNERS = {TRAINING_JOB: plan_stub}


def _attempt(name: str) -> Object:
    return {"number": 1, "job": name, "nodes": 1, "processesPerNode": 1, "startedAt": "2026-01-01T00:00:00Z"}


def _service(owner: Owner, name: str) -> Object:
    spec = {"clusterIP": "None", "selector": {"slipway.dev/training-job": owner.name}, "ports": [{"port": 29500}]}
    return owner.child(SERVICE, name, spec=spec)


def _job(owner: Owner, name: str, settings: Settings) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": settings.runtime_image}]}
    template = {"metadata": {"labels": owner.labels}, "spec": pod}
    return owner.child(JOB, name, spec={"backoffLimit": 0, "template": template})
