"""Pods played in this process, with the files that their manifests ask for, as a kubelet would mount them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.api.kinds import Object
from slipway.api.reports import parse_report
from slipway.api.tasks import FOLDER_ENV, JOB_UID_ENV, SCRATCH_DIR, TERMINATION_LOG
from slipway.runtime.__main__ import main
from support.world import env_of

Code = Callable[["View"], Object]
"""What a pod of others does with what it sees; its report."""


@dataclass(frozen=True)
class View:
    """The files of one container. root: stands for `/`."""

    root: Path
    environment: dict[str, str]

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")


def view_of(job: Object, claims: Path, root: Path) -> View:
    """What the main container of a Job's pod finds. claims: a folder with one for each claim.

    As the kubelet does (pkg/kubelet/kubelet_pods.go, pkg/volume/util/subpath): a subPath that is missing is made, as an
    empty folder; symbolic links in it are followed, as long as they stay inside of the volume.
    """
    spec = job["spec"]["template"]["spec"]
    container = spec["containers"][0]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for mount in sorted(container["volumeMounts"], key=lambda one: str(one["mountPath"])):
        target = root / mount["mountPath"].lstrip("/")
        claim = volumes[mount["name"]].get("persistentVolumeClaim")
        if claim is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        volume = claims / claim["claimName"]
        source = volume / mount.get("subPath", "")
        source.mkdir(parents=True, exist_ok=True)
        source = source.resolve()
        assert source.is_relative_to(volume.resolve())
        target.parent.mkdir(parents=True, exist_ok=True)
        if mount.get("readOnly"):
            shutil.copytree(source, target, symlinks=True)
        else:
            target.symlink_to(source)
    folders = {name: str(root / path.lstrip("/")) for path, name in FOLDER_ENV.items()}
    Path(folders[FOLDER_ENV[TERMINATION_LOG]]).parent.mkdir(parents=True, exist_ok=True)
    Path(folders[FOLDER_ENV[SCRATCH_DIR]]).mkdir(parents=True, exist_ok=True)
    return View(root, {**env_of(job), **folders, JOB_UID_ENV: job["metadata"]["uid"]})


@dataclass
class Played:
    """The behaviour of a World whose pods really work. theirs: instead of the plugin that a compressing pod runs."""

    disk: Path
    theirs: Code
    count: int = 0

    @property
    def claims(self) -> Path:
        return self.disk / "claims"

    def __call__(self, task: Object, job: Object) -> Object:
        self.count += 1
        view = view_of(job, self.claims, self.disk / f"pod-{self.count}")
        if task["task"] == "compress":
            return self.theirs(view)
        main(view.environment)
        report = parse_report(Path(view.environment[FOLDER_ENV[TERMINATION_LOG]]).read_bytes())
        assert report is not None
        return report.to_wire()


def files_seen(view: View, name: str) -> list[Path]:
    """Every file of that name that the container can reach, links followed."""
    found = []
    for folder, _, files in os.walk(view.root, followlinks=True):
        found += [Path(folder) / file for file in files if file == name]
    return found
