"""The example on a real cluster: what is served is the artifact, and it is as small and as right as promised."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml
from rich.console import Console

from demo import chart, digits
from demo.__main__ import CLAIM
from demo.figures import missed_bars
from demo.kubectl import Kubectl, Object, condition, is_true
from demo.stages import Stages
from support.chain import Chain
from support.examples import fenced
from support.manifests import digits_deployment, example

PAGE = Path(__file__).parents[2] / "docs/how-to/serve.md"
HELD_OUT = "held-out"
CLAIM_AND_STORE = ("PersistentVolumeClaim", "ArtifactStore")


def test_every_held_out_sample_is_answered_as_the_packed_file_does(served: Chain, images: chart.Images):
    deployed = served.kubectl.get("modeldeployment", "digits") or {}
    stages = Stages(Console(quiet=True))
    figures = digits.ask(served.kubectl, digits.run_of(0), deployed, images.runtime, CLAIM, stages)
    print(figures)
    assert missed_bars(figures) == []


def test_events_tell_the_transitions_once(served: Chain):
    events = served.kubectl.list("events.events.k8s.io")
    told = [event["reason"] for event in events if event.get("reportingController", "").startswith("slipway.dev")]
    assert told.count("Succeeded") == 1
    assert told.count("TookOver") == 1


def test_an_autoscaler_of_kubernetes_takes_the_deployment_for_one_that_it_can_scale(served: Chain):
    deployed = served.kubectl.get("modeldeployment", "digits") or {}
    pods = served.kubectl.list("pods", deployed["status"]["selector"])
    assert len(pods) == deployed["status"]["readyReplicas"] == 1
    manifests = [yaml.safe_load(text) for text in fenced(PAGE.read_text(), "yaml")]
    (autoscaler,) = [one for one in manifests if one["kind"] == "HorizontalPodAutoscaler"]
    served.kubectl.apply(autoscaler)
    try:
        told = served.kubectl.until("hpa", "digits", lambda one: condition(one, "ScalingActive"))
    finally:
        served.kubectl.delete("hpa", "digits")
    assert condition(told, "AbleToScale")["status"] == "True"
    # It comes as far as asking for the pods' figures, which nothing here answers; without a selector it asks for none.
    assert condition(told, "ScalingActive")["reason"] == "FailedGetResourceMetric"


def held_out_store() -> tuple[Object, Object]:
    """A claim, and the store on it that only the pods which decide are given."""
    claim, store = (copy.deepcopy(example("digits/store.yaml", kind)) for kind in CLAIM_AND_STORE)
    claim["metadata"]["name"] = store["metadata"]["name"] = HELD_OUT
    store["spec"] = {"persistentVolumeClaim": {"claimName": HELD_OUT}, "heldOut": True}
    return claim, store


def claims_by_role(kubectl: Kubectl, name: str) -> dict[str, set[str]]:
    """The claims that the Jobs of a deployment mount."""
    return {
        job["metadata"]["labels"]["slipway.dev/role"]: {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in job["spec"]["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        for job in kubectl.list("jobs", f"slipway.dev/model-deployment={name}")
    }


def test_evaluation_data_on_a_claim_of_its_own_is_mounted_in_the_pods_that_decide_and_in_no_other(served: Chain):
    kubectl, spec = served.kubectl, digits_deployment()["spec"]
    evaluation = {**spec["evaluation"], "store": HELD_OUT}
    # Another seed: the steps of the chain that serves would be found done, and no pod of a plugin would run.
    compression = {**spec["compression"], "seed": 1}
    kubectl.apply(digits_deployment("apart", evaluation=evaluation, compression=compression))
    try:
        waits = kubectl.until(
            "modeldeployment", "apart", lambda one: condition(one, "Ready").get("reason") == "StoreNotFound"
        )
        assert f'spec.evaluation.store: there is no ArtifactStore "{HELD_OUT}"' in condition(waits, "Ready")["message"]
        kubectl.apply(*held_out_store())
        deployed = kubectl.settled("modeldeployment", "apart", timeout_seconds=420)
        assert is_true(deployed, "Ready"), deployed["status"]
        (revision,) = deployed["status"]["revisions"]
        assert revision["gate"]["heldOutReadable"] is False
        assert revision["gate"]["counts"]["n"] == 540
        mounted = claims_by_role(kubectl, "apart")
        both = {role: {HELD_OUT, CLAIM} for role in ("evaluate-baseline", "evaluate-candidate", "package")}
        alone = {role: {HELD_OUT} for role in ("prepare-evaluation", "compare")}
        assert {role: mounted.pop(role) for role in (*both, *alone)} == {**both, **alone}
        assert {"step-0-prune-structured", "step-1-quantize-int8"} <= mounted.keys()
        assert all(claims <= {CLAIM} for claims in mounted.values()), mounted
    finally:
        kubectl.delete("modeldeployment", "apart")
        # What comes later looks at all pods of this namespace.
        kubectl("wait", "--for=delete", "pod", "-l", "slipway.dev/model-deployment=apart", timeout_seconds=90)
