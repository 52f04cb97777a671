"""The `restricted` Pod Security Standard, as far as Slipway's pods can touch it, and Slipway's own stricter rules.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from slipway.api.kinds import Object

_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)


def breaches(pod: Object) -> list[str]:
    """What a PodSpec has that the profile forbids, or lacks that it demands; and a mounted token or writable root."""
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    for volume in pod.get("volumes", ()):
        found += [f"volume {volume['name']} is of {kind}" for kind in set(volume) - {"name"} - _VOLUMES]
    if pod.get("automountServiceAccountToken") is not False:
        found.append("a service-account token is mounted")
    shared = pod.get("securityContext", {})
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        own = {**shared, **container.get("securityContext", {})}
        rules = {
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser") != 0,
            "seccompProfile": own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities.drop": "ALL" in own.get("capabilities", {}).get("drop", ()),
            "capabilities.add": not set(own.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"},
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return found
