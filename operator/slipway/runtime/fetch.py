"""The init container of every serving pod: a verified copy of the repository and the front end, before Triton starts.

It imports neither numpy nor torch: it is what a pod waits for when it starts.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath

from slipway.api.artifacts import State
from slipway.api.reports import Report
from slipway.api.tasks import REPOSITORY_FRONTEND, FetchTask
from slipway.runtime.pod import Pod
from slipway.sdk.artifact import copy_artifact, read_artifact


def run(task: FetchTask, pod: Pod) -> Report:
    """Copy, and verify the copy: the store may change between a check and the copy, the pod's own folder may not.

    Raises ArtifactError where store or copy differ from the digest. A copy cut short by a restart is written over.
    """
    frontend = pod.repository / PurePath(REPOSITORY_FRONTEND).name
    frontend.unlink(missing_ok=True)  # of a start before: nothing but the repository is verified
    copied = pod.copy_to(pod.repository, task.artifact, State.REPOSITORY)
    if copied.path != pod.repository:
        copy_artifact(copied.path, pod.repository, task.artifact.digest)
    # Triton serves all that it finds: there may be nothing beside what was verified as it was copied.
    read_artifact(pod.repository, task.artifact.digest, verify_bytes=False)
    frontend.write_bytes((files("slipway.runtime.serving") / frontend.name).read_bytes())
    return pod.succeeded()
