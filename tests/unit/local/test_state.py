"""The state folder is the user's alone: models, logs and Secrets lie in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.local.state import StateError, StateFolder, make_state_folder, open_state_folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_its_users_alone(tmp_path: Path) -> None:
    with open_state_folder(tmp_path / "a" / "state") as state:
        assert mode(state.root) == 0o700
        assert mode(state.root / "lock") == 0o600


def test_what_others_could_read_of_an_earlier_run_they_can_no_more(tmp_path: Path) -> None:
    root = tmp_path / "state"
    (root / "volumes").mkdir(parents=True)
    (root / "objects.json").write_text("{}")
    (root / "volumes" / "program").write_text("")
    outside = tmp_path / "outside"
    outside.write_text("")
    (root / "volumes" / "link").symlink_to(outside)
    for path, given in ((root, 0o777), (root / "volumes", 0o755), (root / "volumes" / "program", 0o755)):
        path.chmod(given)
    outside.chmod(0o644)
    make_state_folder(root)
    assert [mode(path) for path in (root, root / "volumes", root / "volumes" / "program")] == [0o700] * 3
    assert mode(root / "objects.json") == 0o600
    assert mode(outside) == 0o644


def test_a_folder_of_other_things_keeps_its_rights_and_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    tmp_path.chmod(0o755)
    with pytest.raises(
        StateError, match="holds files of other programs and others may read it; use a new folder as --state"
    ):
        make_state_folder(tmp_path)
    assert mode(tmp_path) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    root = make_state_folder(tmp_path / "state")
    os.chown(root, 65534, -1)
    with pytest.raises(StateError, match="belongs to another user"):
        make_state_folder(root)
    assert StateFolder(root).objects.exists() is False
