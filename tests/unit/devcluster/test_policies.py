"""The development cluster's rules for NetworkPolicies; tests/e2e/test_network_policies.py asks whether they hold."""

from __future__ import annotations

from typing import Any

import pytest

from devcluster.policies import Pod, matches, pod_of, render

NAMESPACES = {"here": {"team": "a"}, "there": {"team": "b"}}
SERVER = Pod("here", {"app": "server"}, "10.244.0.2", {("TCP", "web"): 8000})
PEER = Pod("here", {"role": "peer"}, "10.244.0.10", {})
FOREIGN = Pod("there", {"app": "server", "role": "peer"}, "10.244.1.2", {("TCP", "web"): 9000})
PODS = (SERVER, PEER, FOREIGN)


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "here"}, "spec": {"podSelector": {"matchLabels": {"app": "server"}}, **spec}}


def chain(name: str, *policies: dict[str, Any]) -> list[str]:
    """The rules of one chain."""
    text = render(PODS, NAMESPACES, policies)
    found = text.partition(f"  chain {name} {{\n")[2].partition("  }\n")[0]
    return [line.strip() for line in found.splitlines()]


def test_without_policies_nothing_is_dropped() -> None:
    assert "drop" not in render(PODS, NAMESPACES, [])


def test_answers_pass_before_anything_else() -> None:
    assert chain("check", policy())[0] == "ct state established,related return"


def test_only_selected_pods_of_the_namespace_are_isolated_and_each_reaches_itself() -> None:
    assert chain("check", policy(policyTypes=["Ingress", "Egress"]))[1:] == [
        "ip saddr . ip daddr { 10.244.0.2 . 10.244.0.2 } return",
        "ip daddr vmap { 10.244.0.2 : jump ingress-0 }",
        "ip saddr vmap { 10.244.0.2 : jump egress-0 }",
    ]
    assert chain("ingress-0", policy()) == ["drop"]


@pytest.mark.parametrize(
    ("spec", "isolates"),
    [
        ({}, {"ingress"}),
        ({"egress": []}, {"ingress", "egress"}),
        ({"egress": [], "policyTypes": ["Egress"]}, {"egress"}),
        ({"ingress": [{}], "policyTypes": ["Egress"]}, {"egress"}),
    ],
    ids=lambda one: str(sorted(one) if isinstance(one, set) else one),
)
def test_the_directions_are_those_of_the_api(spec: dict[str, Any], isolates: set[str]) -> None:
    assert {way for way in ("ingress", "egress") if chain(f"{way}-0", policy(**spec))} == isolates


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ({}, ["return"]),
        ({"from": [{"podSelector": {}}]}, ["ip saddr { 10.244.0.2, 10.244.0.10 } return"]),
        ({"from": [{"podSelector": {"matchLabels": {"no": "body"}}}]}, []),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}, ["ip saddr { 10.244.1.2 } return"]),
        (
            {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "peer"}}}]},
            ["ip saddr { 10.244.0.10, 10.244.1.2 } return"],
        ),
        ({"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}, []),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/17", "10.1.128.0/17"]}}]},
            ["ip saddr 10.0.0.0/8 ip saddr != { 10.1.0.0/16 } return"],
        ),
        ({"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}, ["tcp dport 80 return", "udp dport 53 return"]),
        ({"ports": [{"port": 80, "endPort": 90}]}, ["tcp dport 80-90 return"]),
        ({"ports": [{"protocol": "SCTP"}]}, ["meta l4proto sctp return"]),
        ({"ports": [{"port": "web"}]}, ["ip daddr { 10.244.0.2 } tcp dport 8000 return"]),
        ({"ports": [{"port": "nobody's"}]}, []),
        (
            {"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "1.2.3.4/32"}}], "ports": [{"port": 80}]},
            ["ip saddr { 10.244.0.2, 10.244.0.10 } tcp dport 80 return", "ip saddr 1.2.3.4/32 tcp dport 80 return"],
        ),
    ],
    ids=str,
)
def test_a_rule_allows_its_peers_on_its_ports(rule: dict[str, Any], lines: list[str]) -> None:
    assert chain("ingress-0", policy(ingress=[rule])) == [*lines, "drop"]


def test_a_named_port_on_the_way_out_is_that_of_whoever_is_reached() -> None:
    assert chain("egress-0", policy(egress=[{"ports": [{"port": "web"}]}])) == [
        "ip daddr { 10.244.0.2 } tcp dport 8000 return",
        "ip daddr { 10.244.1.2 } tcp dport 9000 return",
        "drop",
    ]


def test_policies_add_up() -> None:
    rules = chain("ingress-0", policy(ingress=[{"ports": [{"port": 80}]}]), policy(ingress=[{"ports": [{"port": 81}]}]))
    assert rules == ["tcp dport 80 return", "tcp dport 81 return", "drop"]


@pytest.mark.parametrize(
    ("requirement", "selected"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "a", "operator": "In", "values": ["2"]}, False),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "a", "operator": "DoesNotExist"}, False),
        ({"key": "b", "operator": "DoesNotExist"}, True),
    ],
    ids=str,
)
def test_expressions_of_a_selector(requirement: dict[str, Any], selected: bool) -> None:
    assert matches({"matchExpressions": [requirement]}, {"a": "1"}) == selected
    assert not matches({"matchExpressions": [requirement], "matchLabels": {"a": "other"}}, {"a": "1"})


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({}, {}),
        ({"hostNetwork": True}, {"podIP": "10.244.0.1"}),
        ({}, {"podIP": "10.244.0.5", "phase": "Succeeded"}),
        ({}, {"podIP": "10.244.0.5", "phase": "Failed"}),
    ],
    ids=str,
)
def test_a_pod_without_an_address_of_its_own_has_no_rules(spec: dict[str, Any], status: dict[str, Any]) -> None:
    assert pod_of({"metadata": {"namespace": "here"}, "spec": {"containers": [], **spec}, "status": status}) is None


def test_ports_are_known_by_protocol_and_name() -> None:
    ports = [{"name": "web", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    obj = {
        "metadata": {"namespace": "here", "labels": {"a": "b"}},
        "spec": {"containers": [{"ports": [*ports, {"containerPort": 1}]}]},
        "status": {"podIP": "10.244.0.5", "phase": "Running"},
    }
    assert pod_of(obj) == Pod("here", {"a": "b"}, "10.244.0.5", {("TCP", "web"): 80, ("UDP", "dns"): 53})
