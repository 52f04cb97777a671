"""Egress rules for the pods of tasks, so that no plugin can send a model to another address.

One NetworkPolicy for each owner selects the pods of all its tasks, and exists before the first of them. With a claim
they need no network; for a bucket they need DNS and the addresses of its service. If these are not known, because the
endpoint is a name, there is no policy, egress is open, and the condition of the ArtifactStore reports it.
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
"""Label of the pods of tasks; users cannot set it (podTemplate allows no labels of slipway.dev)."""
RESTRICTED = "restricted"
OPEN_EGRESS = "pods of tasks may connect to any address: set spec.networks to the networks of the bucket"

DNS: Object = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
"""DNS at any address: the DNS server may be a pod, a Service or a process of the Node."""


def egress_rules(store: ArtifactStoreSpec) -> list[Object] | None:
    """Return the egress rules of a pod that uses this store; None if its addresses are not known."""
    if store.s3 is None:
        return []
    blocks = store.networks or _address(store.s3.endpoint)
    return [DNS, {"to": [{"ipBlock": {"cidr": block}} for block in blocks]}] if blocks else None


def _address(endpoint: str | None) -> tuple[str, ...]:
    """Return the endpoint as a network if it is an IP address."""
    host = urlsplit(endpoint or "").hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    return (f"{address}/{address.max_prefixlen}",)


def tasks_policy(owner: Owner, store: ArtifactStoreSpec) -> Object | None:
    """Return the NetworkPolicy for all task pods of a resource; None if egress must stay open."""
    rules = egress_rules(store)
    if rules is None or owner.kind.kind == "ArtifactStore":  # its only task runs Slipway's code on Slipway's data
        return None
    chosen = {OWNER_LABELS[owner.kind.kind]: owner.name, EGRESS_LABEL: RESTRICTED}
    pods = {"podSelector": {"matchLabels": chosen}}
    # The API server drops an empty list, so a rule that a user adds to it would not be detected as drift. A rule to the
    # pods themselves allows nothing: none of them listens.
    spec = {**pods, "policyTypes": ["Egress"], "egress": rules or [{"to": [pods]}]}
    return owner.child(NETWORK_POLICY, policy_name(owner), spec=spec)


def policy_name(owner: Owner) -> str:
    return owner.child_name("egress")


def keep_policy(owner: Owner, store: ArtifactStoreSpec, view: ClusterView) -> Plan:
    """Return a plan that creates or corrects the policy; empty without a policy, or if its name is taken."""
    policy = tasks_policy(owner, store)
    if policy is None or owner.conflict(view, NETWORK_POLICY, policy_name(owner)):
        return Plan()
    return Plan(apply=(policy,)).as_own_part()


def may_start(owner: Owner, store: ArtifactStoreSpec, view: ClusterView) -> bool:
    """Return True if the policy of a task's pod exists. Raises SpecError (NameConflict) if its name is taken."""
    if tasks_policy(owner, store) is None:
        return True
    owner.refuse_foreign(view, NETWORK_POLICY, policy_name(owner))
    live = view.get(NETWORK_POLICY, owner.namespace, policy_name(owner))
    return live is not None and controller_uid(live) == owner.uid
