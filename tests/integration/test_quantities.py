"""One grammar of quantities: what a pod's resources may say, so may our kinds, our models and the chart's values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.scheduling import MAX_QUANTITY_LENGTH, QUANTITY_PATTERN, amount_of
from slipway.reconcile.drift import in_sync
from support.apiserver import ApiServer
from support.budget import tried
from support.chart import CHART, refusal, rendered
from support.full_objects import full_objects
from support.places import with_value
from support.validators import STRICT, validate_by_model, validate_on_server

NAMESPACE = "quantities"
RIGHT = (
    "0", "4", "0.5", ".5", "5.", "500m", "16Gi", "1.5Gi", "0.5Ki", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi",
    "1Ti", "1Pi", "1Ei", "8Ei", "9Ei", "16Ei", "20000Pi", "100n", "1n", "0.1n", "1u", "1500u", "0.1m", "1e3", "1E3",
    "1e+3", "1e-3", "1e-9", "1e-12", "1.5e3", "12e6", "1e06", "1e18", "1e20", "+4", "+1.5Gi", "007", "007Mi",
    "0.0000000001", "99999999999999999999", 0, 1, 4, 2**40, 2**63 - 1,
)  # fmt: skip
WRONG = (
    "1Qi", "1e", "1K", "1ki", "1gi", "1GI", "1GiB", "1Gb", "1B", "1Mib", "1 Gi", "1e1.5", "1e+", "1E-",
    "1ee3", "1Ek", "1kM", "1m3", "1_000", "1,5", "0x10", "1..5", "1.5.2", "--1", "+-1", "-1", "-1Gi", "-0.5", "much",
    "true", "∞", "\uff11", -1,
)  # fmt: skip


@pytest.fixture(scope="module")
def server(apiserver: ApiServer) -> ApiServer:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apiserver.must("POST", "/api/v1/namespaces", body)
    return apiserver


def deployment(quantity: Any) -> dict[str, Any]:
    """With it as a request, as a limit and as the size of a volume."""
    amounts = {"cpu": quantity, "memory": quantity}
    container = {"name": "main", "image": "x", "resources": {"requests": amounts, "limits": amounts}}
    volume = {"name": "tmp", "emptyDir": {"sizeLimit": quantity}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {
            "selector": {"matchLabels": {"app": "one"}},
            "template": {
                "metadata": {"labels": {"app": "one"}},
                "spec": {"containers": [container], "volumes": [volume]},
            },
        },
    }


def created(server: ApiServer, quantity: Any) -> tuple[bool, dict[str, Any]]:
    """Return True if the API server takes it in the template of a pod, and the Deployment as it would keep it."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    status, answer = server.request("POST", path, deployment(quantity), **STRICT)
    return status < 300, answer


def accepted_by(server: ApiServer, quantity: Any) -> dict[str, bool]:
    """Who takes it: a TrainingJob by the server and by the model, in resources and in a volume."""
    full, *_ = full_objects()["TrainingJob"]
    template = {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": quantity}}]}
    spec = with_value(with_value(full["spec"], ("resources", "memory"), quantity), ("podTemplate",), template)
    return {
        "CRD": validate_on_server(server, NAMESPACE, "TrainingJob", spec)[0],
        "model": not isinstance(validate_by_model("TrainingJob", spec), list),
    }


@pytest.mark.parametrize("quantity", RIGHT)
def test_a_quantity_of_kubernetes_is_taken_everywhere_and_never_drifts(server: ApiServer, quantity: Any) -> None:
    taken, live = created(server, quantity)
    assert taken, live
    assert accepted_by(server, quantity) == {"CRD": True, "model": True}
    assert in_sync(live, deployment(quantity))
    other = "1" if amount_of(quantity) != 1 else "2"
    assert not in_sync(live, deployment(other))


@pytest.mark.parametrize("quantity", WRONG)
def test_what_kubernetes_refuses_is_refused_everywhere(server: ApiServer, quantity: Any) -> None:
    assert not created(server, quantity)[0]
    assert accepted_by(server, quantity) == {"CRD": False, "model": False}
    assert amount_of(quantity) is None


@pytest.mark.parametrize(
    "quantity", ["", " 1Gi", "1\n", "Gi", ".", "+", "-0", "1e100", "0" * (MAX_QUANTITY_LENGTH + 1)]
)
def test_what_only_kubernetes_takes_is_loose_or_unbounded(server: ApiServer, quantity: Any) -> None:
    """It takes spaces away, reads no digits as 0, and computes 10 to the power of any exponent."""
    assert accepted_by(server, quantity) == {"CRD": False, "model": False}


@pytest.mark.timeout(600)
def test_the_server_the_crds_and_the_models_agree_on_whatever_looks_like_a_quantity(server: ApiServer) -> None:
    @tried(300)
    @given(
        st.from_regex(
            r"\A[+]?([0-9]{1,3}[.]?[0-9]{0,3}|[.][0-9]{1,2})[eEinumkKMGTPQ]{0,2}[+-]?[0-9]{0,2}\Z", fullmatch=True
        ).filter(str.isascii)
    )
    def agree(quantity: str) -> None:
        taken, live = created(server, quantity)
        assert accepted_by(server, quantity) == {"CRD": taken, "model": taken}, live
        assert (amount_of(quantity) is not None) == taken
        assert not taken or in_sync(live, deployment(quantity)), live

    agree()


def test_the_chart_has_the_same_grammar() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["definitions"]["quantity"]
    assert (schema["pattern"], schema["maxLength"]) == (QUANTITY_PATTERN, MAX_QUANTITY_LENGTH)


@pytest.mark.parametrize("memory", ["1Qi", "1K", "1e", "-1", "", -1, True, [], 1e300])
def test_the_chart_refuses_by_name_what_is_no_quantity(memory: Any) -> None:
    assert "resources/limits/memory" in refusal({"resources": {"limits": {"memory": memory}}})
    assert "resources/requests/memory" in refusal({"resources": {"requests": {"memory": memory}}})


@pytest.mark.parametrize("size", ["1Qi", "0Gi", "0.0", "0e3", -1])
def test_a_claim_asks_for_some_bytes(size: Any) -> None:
    store = {"enabled": True, "namespaces": ["team"], "claim": {"size": size}}
    assert "defaultStore/claim/size" in refusal({"defaultStore": store})


def test_the_chart_takes_what_kubernetes_takes(server: ApiServer) -> None:
    requests = {"cpu": 0.5, "memory": 100000000, "ephemeral-storage": "1e9", "example.com/device": 1}
    values = {
        "resources": {"requests": requests, "limits": requests},
        "defaultStore": {"enabled": True, "namespaces": [NAMESPACE], "claim": {"size": 10**12}},
    }
    for obj in rendered(values):
        if obj["kind"] in ("Deployment", "PersistentVolumeClaim"):
            group = "apis/apps/v1" if obj["kind"] == "Deployment" else "api/v1"
            obj["metadata"]["namespace"] = NAMESPACE
            path = f"/{group}/namespaces/{NAMESPACE}/{obj['kind'].lower()}s"
            server.must("POST", path, obj, **STRICT)
