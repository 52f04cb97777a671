"""What a run leaves in its state folder, and what the next one makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.api.kinds import POD, Object, key_of
from slipway.cluster.twin import Twin
from slipway.local import snapshot
from slipway.local.environment import pod_folder
from slipway.local.pod import recover_pods
from slipway.local.state import StateError, StateFolder, open_state_folder
from support.builders import training_job
from support.local import a_pod

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB_OBJECT: Object = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "job", "namespace": "default"},
    "spec": {"completions": 1},
}


def now() -> datetime:
    return NOW


async def test_objects_come_back_with_their_uids_versions_and_status(tmp_path: Path):
    path = tmp_path / "objects.json"
    twin = snapshot.load(path, now)
    made = twin.add({**training_job(), "status": {"phase": "Running"}})
    snapshot.save(twin, path)
    again = snapshot.load(path, now)
    found = await again.get(key_of(made))
    assert found == made
    changed = again.edit(key_of(made), lambda obj: obj.update(status={"phase": "Failed"}))
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_uids_of_two_state_folders_are_never_the_same(tmp_path: Path):
    first, second = (snapshot.load(tmp_path / name, now).add(JOB_OBJECT) for name in "ab")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


async def test_events_are_forgotten_after_an_hour(tmp_path: Path):
    path = tmp_path / "objects.json"
    event = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a", "namespace": "default"}}
    twin = snapshot.load(path, now)
    made = twin.add(event)
    snapshot.save(twin, path)
    assert await snapshot.load(path, now).get(key_of(made))
    later = snapshot.load(path, lambda: NOW + timedelta(hours=2))
    assert not await later.list(key_of(made).kind)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "objects": []}'])
def test_a_file_that_is_not_a_snapshot_is_named_with_its_cure(tmp_path: Path, text: str):
    path = tmp_path / "objects.json"
    path.write_text(text)
    with pytest.raises(StateError, match=r"objects\.json.*(remove it|another --state)"):
        snapshot.load(path, now)


def test_two_runs_never_share_a_state_folder(tmp_path: Path):
    with (
        open_state_folder(tmp_path),
        pytest.raises(StateError, match="is in use by another run"),
        open_state_folder(tmp_path),
    ):
        pass
    with open_state_folder(tmp_path):  # the first has let go of it
        pass


def test_a_state_folder_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="use another --state"), open_state_folder(tmp_path / "file" / "below"):
        pass


# --- Pods whose run is over --------------------------------------------------------------------------------------


async def restored(tmp_path: Path, *, exit_code: int | None, message: str = "", owner: str = "Job") -> Object | None:
    """The pod as the next run finds it. exit_code: what its shim wrote, None where it was killed with the run."""
    twin, state = Twin(now), StateFolder(tmp_path)
    job = twin.add(JOB_OBJECT)
    pod = a_pod()
    pod["metadata"]["ownerReferences"][0] |= {"uid": job["metadata"]["uid"], "kind": owner}
    pod = twin.add(pod)
    folder = pod_folder(pod, state) / "containers" / "main"
    folder.mkdir(parents=True)
    if exit_code is not None:
        (folder / "exit").write_text(str(exit_code))
        (folder / "message").write_text(message)
    await recover_pods(twin, state)
    assert not state.pods.exists()
    return next(iter(await twin.list(POD)), None)


async def test_a_pod_that_had_ended_has_ended_so_with_its_last_words(tmp_path: Path):
    pod = await restored(tmp_path, exit_code=0, message="done")
    assert pod is not None
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "done"


async def test_a_pod_that_had_failed_by_itself_was_not_disrupted(tmp_path: Path):
    pod = await restored(tmp_path, exit_code=3)
    assert pod is not None
    assert pod["status"]["phase"] == "Failed"
    assert pod["status"]["conditions"] == []


async def test_a_pod_that_was_killed_with_its_run_was_disrupted(tmp_path: Path):
    pod = await restored(tmp_path, exit_code=None)
    assert pod is not None
    assert pod["status"]["phase"] == "Failed"
    assert [c["type"] for c in pod["status"]["conditions"]] == ["DisruptionTarget"]


async def test_serving_pods_of_an_earlier_run_are_gone(tmp_path: Path):
    assert await restored(tmp_path, exit_code=None, owner="Deployment") is None
