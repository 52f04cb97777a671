"""What became of pods whose run has ended, by what their shims and they themselves left in the state folder."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from slipway.api.base import wire_time
from slipway.api.kinds import DEPLOYMENT, POD, Object, key_of
from slipway.cluster.twin import Twin
from slipway.local.container import terminated
from slipway.local.manifests import is_going, phase
from slipway.local.pod import disruption
from slipway.local.state import State
from slipway.local.volumes import discard, folder_of
from slipway.local.words import termination_message


async def settle_pods(twin: Twin, state: State) -> None:
    """Nothing of an earlier run is running: serving pods go, work that ended has ended, other work was disrupted."""
    for pod in await twin.list(POD):
        key = key_of(pod)
        serves = any(owner["kind"] == DEPLOYMENT.kind for owner in pod["metadata"].get("ownerReferences", ()))
        if serves or is_going(pod):
            twin.edit(key, lambda pod: pod["metadata"].pop("finalizers", None))
            if not is_going(pod):
                twin.remove(key)
        elif phase(pod) not in ("Succeeded", "Failed"):
            status = settled(pod, state)
            twin.edit(key, lambda pod, status=status: pod.update(status=status))  # type: ignore[misc]
        discard(pod, state)
    await _unready(twin)
    _forget(state, {pod["metadata"]["name"] for pod in await twin.list(POD)})


def settled(pod: Object, state: State) -> Object:
    """The last status of a pod that nobody runs any more."""
    statuses = [_container(one, folder_of(pod, state), state.logs(pod)) for one in pod["spec"]["containers"]]
    ends = [one["state"]["terminated"]["exitCode"] for one in statuses if "terminated" in one["state"]]
    whole = len(ends) == len(statuses)
    before = pod.get("status", {})
    if whole and not any(ends):
        return {**before, "containerStatuses": statuses, "phase": "Succeeded", "conditions": []}
    disrupted = not whole or any(c["type"] == "DisruptionTarget" for c in before.get("conditions", ()))
    conditions = [disruption()] if disrupted else []
    return {**before, "containerStatuses": statuses, "phase": "Failed", "conditions": conditions}


def _container(container: Object, folder: Path, logs: Path) -> Object:
    name = container["name"]
    words = folder / "containers" / str(name)
    status: Object = {"name": name, "image": container["image"], "ready": False, "restartCount": 0}
    try:
        code = int((words / "exit").read_text())
        at = _at(words / "exit")
    except (OSError, ValueError):
        return {**status, "state": {"waiting": {"reason": "ContainerStatusUnknown"}}}
    message = termination_message(container, words / "message", logs / f"{name}.0.log", code)
    return {**status, "state": {"terminated": terminated(code, message, at, at)}}


def _at(path: Path) -> str:
    return wire_time(datetime.fromtimestamp(path.stat().st_mtime, UTC))


async def _unready(twin: Twin) -> None:
    for deployment in await twin.list(DEPLOYMENT):
        twin.edit(key_of(deployment), lambda one: one.pop("status", None))


def _forget(state: State, names: set[str]) -> None:
    """Folders of pods that no object tells of, and their logs."""
    shutil.rmtree(state.pods, ignore_errors=True)
    for folder in (state.root / "logs").glob("*/*"):
        if folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)
