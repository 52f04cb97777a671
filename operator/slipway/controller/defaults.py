"""The objects that come with the operator (CompressionPlugins of its own image): kept as they were shipped."""

from __future__ import annotations

from pathlib import Path

import structlog
import yaml

from slipway.api.errors import NotFound
from slipway.api.kinds import COMPRESSION_PLUGIN, Object, key_of
from slipway.cluster.port import ABSENT, Cluster
from slipway.reconcile.drift import covers

log = structlog.get_logger(__name__)


def read_defaults(folder: Path) -> list[Object]:
    """All manifests of *.yaml, by file name. Raises ValueError for anything but a CompressionPlugin."""
    manifests = []
    for path in sorted(folder.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest is None:
                continue
            found = manifest.get("apiVersion"), manifest.get("kind")
            if found != (COMPRESSION_PLUGIN.api_version, COMPRESSION_PLUGIN.kind):
                raise ValueError(f"{path}: {found[1]}: only a CompressionPlugin can be a default; take it out")
            manifests.append(manifest)
    return manifests


async def apply_defaults(manifests: list[Object], cluster: Cluster) -> None:
    """Apply each that is not as it was shipped. Raises ClusterError."""
    for manifest in manifests:
        key = key_of(manifest)
        try:
            live = await cluster.get(key)
            version = {field: live["metadata"][field] for field in ("uid", "resourceVersion")}
        except NotFound:
            live, version = None, {"resourceVersion": ABSENT}
        if live is None or not covers(live, manifest):
            await cluster.apply({**manifest, "metadata": {**manifest["metadata"], **version}})
            log.info("applied a default", object=f"{key.kind} {key.name}")
