"""Drift: what the API server fills in or rewrites is none; what a user changed is."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.kinds import Object
from slipway.reconcile.drift import amount_of, in_sync


def obj(spec: Any, **metadata: Any) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", **metadata}, "spec": spec}


def container(**fields: Any) -> Object:
    return {"containers": [{"name": "main", **fields}]}


COVERED = {
    "defaults of the server": ({"replicas": 1}, {"replicas": 1, "strategy": {"type": "RollingUpdate"}}),
    "an empty value that the server leaves out": ({"hostNetwork": False, "args": [], "labels": {}, "a": None}, {}),
    "cpu as a fraction": (
        container(resources={"limits": {"cpu": "0.5"}}),
        container(resources={"limits": {"cpu": "500m"}}),
    ),
    "cpu as a number": (
        container(resources={"limits": {"cpu": "1000m"}}),
        container(resources={"limits": {"cpu": "1"}}),
    ),
    "memory by another unit": (
        container(resources={"requests": {"memory": "1024Mi"}}),
        container(resources={"requests": {"memory": "1Gi"}}),
    ),
    "devices": (
        container(resources={"limits": {"nvidia.com/gpu": 1}}),
        container(resources={"limits": {"nvidia.com/gpu": "1"}}),
    ),
    "a sidecar that a user injected": (
        {"containers": [{"name": "main", "image": "x"}]},
        {"containers": [{"name": "proxy"}, {"name": "main", "image": "x", "imagePullPolicy": "Always"}]},
    ),
    "named items in another order": (
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
    ),
    "two mounts of one volume": (
        {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b", "readOnly": False}]},
        {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
    ),
    "defaults inside an item": ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}),
    "an empty selector": ({"podSelector": {}}, {"podSelector": {}}),
}

DRIFTED = {
    "another number": ({"replicas": 2}, {"replicas": 3}),
    "a field that went": ({"replicas": 2}, {}),
    "another image": (
        {"containers": [{"name": "main", "image": "x"}]},
        {"containers": [{"name": "main", "image": "y"}]},
    ),
    "a container that went": ({"containers": [{"name": "main"}]}, {"containers": [{"name": "other"}]}),
    "cpu": (container(resources={"limits": {"cpu": "500m"}}), container(resources={"limits": {"cpu": "600m"}})),
    "arguments in another order": ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
    "an argument too many": ({"args": ["a"]}, {"args": ["a", "b"]}),
    "a rule too many": (
        {"ingress": [{"from": [{"podSelector": {}}]}]},
        {"ingress": [{"from": [{"podSelector": {}}]}, {}]},
    ),
    "rules where none are wanted": ({"ingress": []}, {"ingress": [{}]}),
    "true for false": ({"suspend": False}, {"suspend": True}),
    "a text that looks like a quantity": ({"value": "1000m"}, {"value": "1"}),
    "a number for a truth": ({"flag": True}, {"flag": 1}),
    "something where nothing is wanted": ({"selector": {"a": "b"}}, {"selector": None}),
}


@pytest.mark.parametrize(("rendered", "live"), COVERED.values(), ids=COVERED)
def test_is_no_drift(rendered: Any, live: Any) -> None:
    assert in_sync(obj(live), obj(rendered))


@pytest.mark.parametrize(("rendered", "live"), DRIFTED.values(), ids=DRIFTED)
def test_is_drift(rendered: Any, live: Any) -> None:
    assert not in_sync(obj(live), obj(rendered))


def test_what_the_server_keeps_of_an_object_is_no_drift() -> None:
    assert in_sync(obj({}, uid="u", resourceVersion="7", generation=2), obj({}, resourceVersion="1"))


def test_labels_and_owners_are_compared() -> None:
    owner = {"uid": "u", "controller": True}
    live = obj({}, labels={"a": "b", "c": "d"}, ownerReferences=[{**owner, "name": "x"}])
    assert in_sync(live, obj({}, labels={"a": "b"}, ownerReferences=[owner]))
    assert not in_sync(live, obj({}, labels={"a": "c"}))
    assert not in_sync(live, obj({}, ownerReferences=[{"uid": "other"}]))


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("500m", "0.5"), (4, "4"), ("1.5", "1.5"), ("2k", "2000"), ("1Ki", "1024"), ("1Gi", str(2**30)), ("1E", "1e18")],
)
def test_quantities_are_numbers(quantity: int | str, amount: str) -> None:
    from decimal import Decimal

    assert amount_of(quantity) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "-1", "1x", "1 Gi", None, [], "true"])
def test_what_is_no_quantity_has_no_amount(text: Any) -> None:
    assert amount_of(text) is None
