"""Volumes that many pods may write to at once, made beforehand: folders of the host as `local` volumes.

Of the kinds that need no driver only `local` has its files given to the pod's fsGroup by the kubelet. All nodes are on
this machine, so each of them has the folders.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devcluster.kubectl import Kubectl

COUNT = 16
_GROUP = 65532


def provide(kubectl: Kubectl, folder: Path, nodes: Sequence[str]) -> None:
    """Make the volumes that are missing and renew those that their claim has left: a released one never binds again."""
    known = {
        volume["metadata"]["name"]: volume["status"].get("phase") for volume in kubectl.objects("persistentvolumes")
    }
    names = [f"slipway-dev-{number:02}" for number in range(1, COUNT + 1)]
    left = [name for name in names if known.get(name) in ("Released", "Failed")]
    if left:
        kubectl("delete", "persistentvolume", "--wait", *left)
    wanted = [name for name in names if name in left or name not in known]
    for name in wanted:
        _empty(folder / name)
    if wanted:
        kubectl.apply(*(_volume(name, folder / name, nodes) for name in wanted))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chown(folder, 0, _GROUP)
    # Group-writable and setgid, as the kubelet leaves it: whatever is made inside belongs to the group,
    # the folders that the kubelet makes for a subPath included.
    folder.chmod(0o2775)


def _volume(name: str, folder: Path, nodes: Sequence[str]) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "slipway-dev",
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
