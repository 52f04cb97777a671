"""What becomes of the revisions of a deployment: made, gone back to, only scaled, kept or deleted."""

from __future__ import annotations

from slipway.api.kinds import DEPLOYMENT, Key, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.preview.plan_preview import PlanPreview


def rollout_of(preview: PlanPreview, key: Key, deployment: ModelDeployment) -> tuple[str, list[str]]:
    """A headline, and what happens to Deployments and the Service besides."""
    past = dict(preview.before.get(key, {}).get("status") or {})
    known = {revision["name"] for revision in past.get("revisions", ())}
    status, was = deployment.status, past.get("serving")
    notes = list(_scaled(preview, key))
    if status.serving is None:
        return "no revision serves", notes
    wanted = deployment.spec.serving.replicas
    if status.serving == was:
        return f"revision {status.serving} goes on serving: nothing rolls", notes
    how = "goes back to" if status.serving in known else "rolls out"
    headline = f"{how} revision {status.serving}: {wanted} {'replica' if wanted == 1 else 'replicas'} of Triton"
    if was:
        notes.insert(0, f"traffic moves from revision {was} when all new replicas answer the golden requests")
    else:
        notes.insert(0, f"Service {deployment_name(key)} sends traffic when all replicas answer the golden requests")
    return headline, notes


def deployment_name(key: Key) -> str:
    return key.name


def _scaled(preview: PlanPreview, key: Key) -> list[str]:
    found = []
    for change in preview.changes:
        if change.key.kind != DEPLOYMENT or not _belongs(change.object, preview.after[key]):
            continue
        before, after = _replicas(change.before), _replicas(change.after)
        if change.verb == "delete":
            found.append(f"Deployment {change.key.name} is deleted")
        elif change.verb == "change" and before != after:
            only = "only scaled" if len(change.differences) == 1 else "scaled"
            found.append(f"Deployment {change.key.name} is {only}: {before} -> {after} replicas")
    return found


def _belongs(obj: Object, owner: Object) -> bool:
    return any(one["uid"] == owner["metadata"]["uid"] for one in obj["metadata"].get("ownerReferences", ()))


def _replicas(obj: Object | None) -> int | None:
    return None if obj is None else int(obj["spec"].get("replicas", 1))
