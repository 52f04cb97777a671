"""The example on a real cluster: what is served is the artifact, and it is as small and as right as promised."""

from __future__ import annotations

from pathlib import Path

import yaml
from rich.console import Console

from demo import chart, digits
from demo.__main__ import CLAIM
from demo.figures import missed_bars
from demo.kubectl import condition
from demo.stages import Stages
from support.chain import Chain
from support.examples import fenced

PAGE = Path(__file__).parents[2] / "docs/how-to/serve.md"


def test_every_held_out_sample_is_answered_as_the_packed_file_does(served: Chain, images: chart.Images):
    deployed = served.kubectl.get("modeldeployment", "digits") or {}
    stages = Stages(Console(quiet=True))
    figures = digits.ask(served.kubectl, digits.run_of(0), deployed, images.runtime, CLAIM, stages)
    print(figures)
    assert missed_bars(figures) == []


def test_the_served_graph_holds_int8_weights(served: Chain):
    deployed = served.kubectl.get("modeldeployment", "digits") or {}
    (step,) = [task for task in deployed["status"]["tasks"] if task["name"] == "step-1-quantize-int8"]
    assert step["metrics"]["int8_share"] > 0.9


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
