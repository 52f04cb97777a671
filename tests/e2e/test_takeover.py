"""A change of what serves costs no request: the new revision takes over, the old one drains, and back again."""

from __future__ import annotations

from demo.kubectl import Kubectl, is_true, observed
from support.chain import Chain
from support.clients import Tally, asking
from support.manifests import digits_deployment

SETTLED_SECONDS = 240


def rolled(kubectl: Kubectl, deployment: dict) -> str:
    """The revision that serves once this spec does, and every other one has drained."""
    kubectl.apply(deployment)
    live = kubectl.until(
        "modeldeployment",
        "digits",
        lambda one: observed(one) and is_true(one, "Ready"),
        timeout_seconds=SETTLED_SECONDS,
    )
    serving = live["status"]["serving"]
    retired = [one["name"] for one in live["status"]["revisions"] if one["name"] != serving]
    for name in retired:
        kubectl.until("deployment", name, lambda one: not one["status"].get("replicas"), timeout_seconds=90)
    return serving


def test_no_request_fails_while_revisions_take_over_and_drain(served: Chain):
    service = served.kubectl.get("service", "digits") or {}
    address = f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
    changed = digits_deployment()
    changed["spec"]["serving"] = {**changed["spec"].get("serving", {}), "maxBatchSize": 32}
    new, kept = Tally(), Tally()
    with asking(address, "digits", new, keep_alive=False), asking(address, "digits", kept, keep_alive=True):
        other = rolled(served.kubectl, changed)
        back = rolled(served.kubectl, digits_deployment())
    print({"new connections": new, "kept connection": kept})
    assert other != served.serving == back
    assert (new.failures, kept.failures) == ([], [])
    assert min(new.answered, kept.answered) > 100
