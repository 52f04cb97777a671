"""The checks of `slipway doctor`, in order."""

from __future__ import annotations

from slipway.api.errors import Finding, Forbidden
from slipway.doctor import installation, permissions, probes, resources
from slipway.doctor.installation import ClusterQueries


async def examine(queries: ClusterQueries, probe_seconds: float | None = None) -> list[Finding]:
    """Run every check. probe_seconds: how long to wait for each Job that probes a store; None makes no Jobs."""
    found = await installation.crds(queries)
    if any(one.level == "fail" for one in found):
        return found  # the other checks need these kinds
    checks = {
        "operator": installation.operator,
        "your permissions": permissions.user_permissions,
        "operator permissions": permissions.operator_permissions,
        "DNS": resources.dns,
        "pools": resources.pools,
        "stores": resources.stores,
        "images": resources.images,
        "plugins": installation.plugins,
    }
    for name, check in checks.items():
        try:
            found += await check(queries)
        except Forbidden as error:
            found.append(Finding(name, "warn", str(error), "ask a user with this permission"))
    if probe_seconds is not None:
        found += await probes.probe_stores(queries, probe_seconds)
    return found
