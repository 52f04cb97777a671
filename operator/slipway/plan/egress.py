"""Where the pods of tasks may connect to: nothing but what a task needs, so that no plugin sends a model away.

One NetworkPolicy an owner holds for the pods of all its tasks, and is there before the first of them. On a claim they
need no network at all; for a bucket they need the DNS and the addresses of its service. Where those are not known, the
endpoint being a name, there is no policy, egress is open, and the ArtifactStore says so.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.kinds import GROUP, NETWORK_POLICY, Object
from slipway.plan.parent import OWNER_LABELS, Parent
from slipway.plan.plan import Plan
from slipway.plan.seen import Seen, controller_uid

EGRESS_LABEL = f"{GROUP}/egress"
"""On the pods of tasks; no user can set it (podTemplate takes no labels of slipway.dev)."""
RESTRICTED = "restricted"
OPEN_EGRESS = "pods of tasks may reach any address: spec.networks is missing"

DNS: Object = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
"""To anywhere: a cluster's DNS may be pods, a Service or a process of the node."""


def egress_rules(store: ArtifactStoreSpec) -> list[Object] | None:
    """The egress rules of a pod that uses this store; None where they cannot be told."""
    if store.s3 is None:
        return []
    blocks = store.networks or _address(store.s3.endpoint)
    return [DNS, {"to": [{"ipBlock": {"cidr": block}} for block in blocks]}] if blocks else None


def _address(endpoint: str | None) -> tuple[str, ...]:
    """The endpoint as a network, where it is an address and no name."""
    host = urlsplit(endpoint or "").hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    return (f"{address}/{address.max_prefixlen}",)


def tasks_policy(parent: Parent, store: ArtifactStoreSpec) -> Object | None:
    """For the pods of all tasks of a resource; None where egress must stay open."""
    rules = egress_rules(store)
    if rules is None or parent.kind.kind == "ArtifactStore":  # whose one task runs code of ours on data of ours
        return None
    chosen = {OWNER_LABELS[parent.kind.kind]: parent.name, EGRESS_LABEL: RESTRICTED}
    pods = {"podSelector": {"matchLabels": chosen}}
    # The API server drops an empty list, and one that somebody fills would not be seen: none of these pods listens.
    spec = {**pods, "policyTypes": ["Egress"], "egress": rules or [{"to": [pods]}]}
    return parent.child(NETWORK_POLICY, policy_name(parent), spec=spec)


def policy_name(parent: Parent) -> str:
    return parent.child_name("egress")


def keep_policy(parent: Parent, store: ArtifactStoreSpec, seen: Seen) -> Plan:
    """The plan that makes the policy, and mends it; empty where there is none, or its name is somebody else's."""
    policy = tasks_policy(parent, store)
    if policy is None or parent.conflict(seen, NETWORK_POLICY, policy_name(parent)):
        return Plan()
    return Plan(apply=(policy,)).apart()


def may_start(parent: Parent, store: ArtifactStoreSpec, seen: Seen) -> bool:
    """Whether the policy that a task's pod needs is there. Raises SpecError (NameConflict) for another of its name."""
    if tasks_policy(parent, store) is None:
        return True
    parent.refuse_foreign(seen, NETWORK_POLICY, policy_name(parent))
    live = seen.get(NETWORK_POLICY, parent.namespace, policy_name(parent))
    return live is not None and controller_uid(live) == parent.uid
