"""The example on a real cluster: what is served is the artifact, and it is as small and as right as promised."""

from __future__ import annotations

from rich.console import Console

from demo import chart, digits
from demo.__main__ import CLAIM
from demo.figures import missed_bars
from demo.stages import Stages
from support.chain import Chain


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
