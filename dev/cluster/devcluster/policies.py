"""NetworkPolicies as nftables rules: what each pod may be sent, and what it may send. No I/O."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TABLE = "slipway-dev-policies"

Json = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    """A pod that has an address of its own."""

    namespace: str
    labels: Labels
    address: str
    ports: Mapping[tuple[str, str], int]
    """By protocol and name."""


@dataclass(frozen=True)
class Direction:
    """policy_type: as in spec.policyTypes. near and far: the fields of a packet that hold the pod and its peer."""

    policy_type: str
    rules: str
    peers: str
    near: str
    far: str


DIRECTIONS = (
    Direction("Ingress", "ingress", "from", near="daddr", far="saddr"),
    Direction("Egress", "egress", "to", near="saddr", far="daddr"),
)


def pod_of(obj: Json) -> Pod | None:
    """None without an address of its own: on its node's network, not started, or ended (it may be another's now)."""
    spec, status = obj["spec"], obj.get("status", {})
    if spec.get("hostNetwork") or not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    ports = {
        (port.get("protocol", "TCP"), port["name"]): port["containerPort"]
        for container in (*spec["containers"], *spec.get("initContainers", ()))
        for port in container.get("ports", ())
        if "name" in port
    }
    return Pod(obj["metadata"]["namespace"], obj["metadata"].get("labels", {}), status["podIP"], ports)


def render(pods: Iterable[Pod], namespaces: Mapping[str, Labels], policies: Sequence[Json]) -> str:
    """The whole table, which replaces the former one at once.

    A packet that a pod's own node sends never comes here, so probes always pass. Rules see what a Service's address was
    translated to, not that address.
    """
    pods = sorted(pods, key=lambda pod: ipaddress.ip_address(pod.address))
    chains: list[str] = []
    jumps: list[str] = []
    isolated: set[str] = set()
    for direction in DIRECTIONS:
        groups: dict[tuple[int, ...], list[Pod]] = {}
        for pod in pods:
            if selecting := tuple(_selecting(direction, pod, policies)):
                groups.setdefault(selecting, []).append(pod)
        targets = []
        for number, (selecting, members) in enumerate(groups.items()):
            chain = f"{direction.rules}-{number}"
            rules = [
                line
                for index in selecting
                for rule in policies[index]["spec"].get(direction.rules) or ()
                for line in _allowed(
                    direction, rule, policies[index]["metadata"]["namespace"], members, pods, namespaces
                )
            ]
            chains.append(_chain(chain, [*(f"{line} return".strip() for line in rules), "drop"]))
            targets += [f"{pod.address} : jump {chain}" for pod in members]
            isolated |= {pod.address for pod in members}
        if targets:
            jumps.append(f"ip {direction.near} vmap {{ {', '.join(targets)} }}")
    itself = ", ".join(f"{address} . {address}" for address in sorted(isolated))
    check = [
        "ct state established,related return",
        *([f"ip saddr . ip daddr {{ {itself} }} return"] if itself else ()),
        *jumps,
    ]
    hooks = [
        _chain(hook, [f"type filter hook {hook} priority filter; policy accept;", "jump check"])
        for hook in ("forward", "input")
    ]
    table = f"table ip {TABLE}"
    return "\n".join([table, f"delete {table}", f"{table} {{", *chains, _chain("check", check), *hooks, "}", ""])


def _chain(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])


def _selecting(direction: Direction, pod: Pod, policies: Sequence[Json]) -> Iterator[int]:
    """The policies that isolate the pod in this direction."""
    for index, policy in enumerate(policies):
        spec = policy["spec"]
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else ())]
        if (
            direction.policy_type in types
            and policy["metadata"]["namespace"] == pod.namespace
            and matches(spec.get("podSelector", {}), pod.labels)
        ):
            yield index


def _allowed(
    direction: Direction,
    rule: Json,
    namespace: str,
    members: Sequence[Pod],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Labels],
) -> Iterator[str]:
    """Each combination of a peer and a port of the rule; an empty text is everything."""
    peers = [_peer(direction, peer, namespace, pods, namespaces) for peer in rule.get(direction.peers) or ()]
    ports = [
        line for port in rule.get("ports") or () for line in _port(port, members if direction.peers == "from" else pods)
    ]
    for peer in peers if rule.get(direction.peers) else [""]:
        for port in ports if rule.get("ports") else [""]:
            if peer is not None:
                yield f"{peer} {port}".strip()


def _peer(
    direction: Direction, peer: Json, namespace: str, pods: Sequence[Pod], namespaces: Mapping[str, Labels]
) -> str | None:
    """None where nobody is meant."""
    field = f"ip {direction.far}"
    if block := peer.get("ipBlock"):
        if ":" in block["cidr"]:
            return None  # the cluster has no IPv6
        but = ipaddress.collapse_addresses(ipaddress.ip_network(cidr) for cidr in block.get("except") or ())
        excluded = ", ".join(map(str, but))
        return f"{field} {block['cidr']}" + (f" {field} != {{ {excluded} }}" if excluded else "")
    selected = [
        pod.address
        for pod in pods
        if matches(peer.get("podSelector") or {}, pod.labels)
        and (
            matches(peer["namespaceSelector"], namespaces.get(pod.namespace, {}))
            if "namespaceSelector" in peer
            else pod.namespace == namespace
        )
    ]
    return _among(field, selected) if selected else None


def _port(port: Json, pods: Sequence[Pod]) -> Iterator[str]:
    """pods: those whose container ports the name may stand for."""
    protocol, wanted = port.get("protocol", "TCP"), port.get("port")
    if wanted is None:
        yield f"meta l4proto {protocol.lower()}"
    elif isinstance(wanted, int):
        last = port.get("endPort")
        yield f"{protocol.lower()} dport {wanted}{f'-{last}' if last else ''}"
    else:
        numbers: dict[int, list[str]] = {}
        for pod in pods:
            if number := pod.ports.get((protocol, wanted)):
                numbers.setdefault(number, []).append(pod.address)
        for number, addresses in numbers.items():
            yield f"{_among('ip daddr', addresses)} {protocol.lower()} dport {number}"


def _among(field: str, addresses: Iterable[str]) -> str:
    return f"{field} {{ {', '.join(addresses)} }}"


def matches(selector: Json, labels: Labels) -> bool:
    """Whether a LabelSelector selects; an empty one selects everything."""
    wanted = (selector.get("matchLabels") or {}).items()
    return wanted <= labels.items() and all(_holds(one, labels) for one in selector.get("matchExpressions") or ())


def _holds(requirement: Json, labels: Labels) -> bool:
    value, values = labels.get(requirement["key"]), requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"no operator of a LabelSelector: {requirement['operator']}")
