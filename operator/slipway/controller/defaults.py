"""Default objects of a release: CompressionPlugins of its own image, and stores for the namespaces that it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
import yaml

from slipway.api.errors import ClusterError, NotFound
from slipway.api.kinds import ARTIFACT_STORE, COMPRESSION_PLUGIN, Object, key_of
from slipway.cluster.port import ABSENT, Cluster, look_up
from slipway.reconcile.drift import in_sync

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0

_KINDS = {(kind.api_version, kind.kind): kind for kind in (COMPRESSION_PLUGIN, ARTIFACT_STORE)}


def read_defaults(folder: Path) -> list[Object]:
    """Return all manifests of *.yaml, by file name.

    Raises ValueError for anything but a CompressionPlugin, or an ArtifactStore that names its namespace.
    """
    manifests = []
    for path in sorted(folder.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest is None:
                continue
            kind = _KINDS.get((manifest.get("apiVersion"), manifest.get("kind")))
            if kind is None:
                found = f"{path}: {manifest.get('kind')}"
                raise ValueError(f"{found}: only a CompressionPlugin or an ArtifactStore can be a default; remove it")
            if kind.namespaced and not manifest["metadata"].get("namespace"):
                raise ValueError(
                    f"{path}: {kind} {manifest['metadata']['name']}: metadata.namespace: is missing; add it"
                )
            manifests.append(manifest)
    return manifests


async def keep_applied(manifest: Object, cluster: Cluster, *, retry_seconds: float = FIRST_RETRY_SECONDS) -> None:
    """Apply one default, and retry until the API server and its namespace are available."""
    seconds = retry_seconds
    while True:
        try:
            await apply_default(manifest, cluster)
        except ClusterError as error:
            log.warning("could not apply a default", object=_name(manifest), error=str(error))
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, LAST_RETRY_SECONDS)
        else:
            return


async def apply_default(manifest: Object, cluster: Cluster) -> None:
    """Apply a plugin as it was shipped, and create a store only if it is missing: users may change stores.

    Raises ClusterError.
    """
    if key_of(manifest).kind == ARTIFACT_STORE:
        await _create_once(manifest, cluster)
    else:
        await _keep_as_shipped(manifest, cluster)


async def _create_once(manifest: Object, cluster: Cluster) -> None:
    live = await look_up(cluster, key_of(manifest))
    if live is None:
        await cluster.create(manifest)
        log.info("created a default", object=_name(manifest))
    elif not in_sync(live, manifest):
        log.warning("kept a store that differs from the default of the release", object=_name(manifest))


async def _keep_as_shipped(manifest: Object, cluster: Cluster) -> None:
    try:
        live = await cluster.get(key_of(manifest))
        version = {field: live["metadata"][field] for field in ("uid", "resourceVersion")}
    except NotFound:
        live, version = None, {"resourceVersion": ABSENT}
    if live is None or not in_sync(live, manifest):
        await cluster.apply({**manifest, "metadata": {**manifest["metadata"], **version}})
        log.info("applied a default", object=_name(manifest))


def _name(manifest: Object) -> str:
    kind, namespace, name = key_of(manifest)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
