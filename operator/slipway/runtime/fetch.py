"""The init container of every serving pod: a verified copy of the repository and the front end, before Triton starts.

It imports neither numpy nor torch: it is what a pod waits for when it starts.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import PurePath

from slipway.api.artifacts import State
from slipway.api.reports import Report
from slipway.api.tasks import REPOSITORY_FRONTEND, FetchTask
from slipway.runtime.pod import Pod
from slipway.sdk.artifact import read_artifact
from slipway.sdk.manifest import MANIFEST


def run(task: FetchTask, pod: Pod) -> Report:
    """Copy, then verify the copy: the store may change between a check and the copy, the pod's own folder may not.

    Raises ArtifactError where store or copy differ from the digest. A copy cut short by a restart is written over.
    """
    source = pod.read(task.artifact, State.REPOSITORY)
    frontend = pod.repository / PurePath(REPOSITORY_FRONTEND).name
    frontend.unlink(missing_ok=True)  # of a start before: nothing but the repository is verified
    for name in (*source.content.files, MANIFEST):
        target = pod.repository / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / name, target)
    read_artifact(pod.repository, task.artifact.digest)
    frontend.write_bytes((files("slipway.runtime.serving") / frontend.name).read_bytes())
    return pod.succeeded()
