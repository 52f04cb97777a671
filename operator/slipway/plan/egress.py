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
from slipway.plan.observation import ClusterView, controller_uid
from slipway.plan.owner import OWNER_LABELS, Owner
from slipway.plan.plan import Plan

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


def tasks_policy(owner: Owner, store: ArtifactStoreSpec) -> Object | None:
    """For the pods of all tasks of a resource; None where egress must stay open."""
    rules = egress_rules(store)
    if rules is None or owner.kind.kind == "ArtifactStore":  # whose one task runs code of ours on data of ours
        return None
    chosen = {OWNER_LABELS[owner.kind.kind]: owner.name, EGRESS_LABEL: RESTRICTED}
    pods = {"podSelector": {"matchLabels": chosen}}
    # The API server drops an empty list, and one that somebody fills would not be seen: none of these pods listens.
    spec = {**pods, "policyTypes": ["Egress"], "egress": rules or [{"to": [pods]}]}
    return owner.child(NETWORK_POLICY, policy_name(owner), spec=spec)


def policy_name(owner: Owner) -> str:
    return owner.child_name("egress")


def keep_policy(owner: Owner, store: ArtifactStoreSpec, view: ClusterView) -> Plan:
    """The plan that makes the policy, and mends it; empty where there is none, or its name is somebody else's."""
    policy = tasks_policy(owner, store)
    if policy is None or owner.conflict(view, NETWORK_POLICY, policy_name(owner)):
        return Plan()
    return Plan(apply=(policy,)).as_own_part()


def may_start(owner: Owner, store: ArtifactStoreSpec, view: ClusterView) -> bool:
    """Whether the policy that a task's pod needs is there. Raises SpecError (NameConflict) for another of its name."""
    if tasks_policy(owner, store) is None:
        return True
    owner.refuse_foreign(view, NETWORK_POLICY, policy_name(owner))
    live = view.get(NETWORK_POLICY, owner.namespace, policy_name(owner))
    return live is not None and controller_uid(live) == owner.uid
