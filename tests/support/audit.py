"""A kube-apiserver that writes down what service accounts ask of it, and what it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from support.apiserver import ApiServer, install_crds, running

_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
_READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request. resource: with its subresource, as `trainingjobs/status`; ended: when it was answered."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    code: int
    forbidden: bool
    ended: datetime

    @property
    def writes(self) -> bool:
        """Return True if it would change an object; it did where the code is below 300."""
        return self.verb not in _READS


@dataclass(frozen=True, slots=True)
class AuditLog:
    """What service accounts asked, in the order of the answers."""

    path: Path

    def calls(self, user: str = "") -> list[Call]:
        """All calls on resources so far, of that user or of all. A watch is there from its beginning."""
        if not self.path.exists():
            return []
        whole = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        events = [json.loads(line) for line in whole if user in line]
        found = {event["auditID"]: _call(event) for event in events if "objectRef" in event}
        return sorted((one for one in found.values() if user in ("", one.user)), key=lambda call: call.ended)


@contextmanager
def audited_apiserver(folder: Path) -> Iterator[tuple[ApiServer, AuditLog]]:
    """A server of its own with our CRDs. folder: for the policy and the log."""
    policy, log = folder / "audit-policy.yaml", folder / "audit.log"
    policy.write_text(yaml.safe_dump(_POLICY))
    with running("--", f"--audit-policy-file={policy}", f"--audit-log-path={log}") as server:
        install_crds(server)
        yield server, AuditLog(log)


def _call(event: dict[str, object]) -> Call:
    ref, status = _object(event["objectRef"]), _object(event.get("responseStatus"))
    subresource = f"/{ref['subresource']}" if "subresource" in ref else ""
    decision = _object(event.get("annotations")).get("authorization.k8s.io/decision")
    return Call(
        user=str(_object(event["user"])["username"]),
        verb=str(event["verb"]),
        group=str(ref.get("apiGroup", "")),
        resource=f"{ref['resource']}{subresource}",
        namespace=str(ref.get("namespace", "")),
        name=str(ref.get("name", "")),
        code=int(str(status.get("code", 0))),
        forbidden=decision == "forbid",
        ended=datetime.fromisoformat(str(event["stageTimestamp"])),
    )


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
