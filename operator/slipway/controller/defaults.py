"""The objects that come with a release: CompressionPlugins of its own image, and stores of the namespaces it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
import yaml

from slipway.api.errors import ClusterError, NotFound
from slipway.api.kinds import ARTIFACT_STORE, COMPRESSION_PLUGIN, Object, key_of
from slipway.cluster.port import ABSENT, Cluster, look_up
from slipway.reconcile.drift import covers

log = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0

_KINDS = {(kind.api_version, kind.kind): kind for kind in (COMPRESSION_PLUGIN, ARTIFACT_STORE)}


def read_defaults(folder: Path) -> list[Object]:
    """All manifests of *.yaml, by file name.

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
                raise ValueError(f"{found}: only a CompressionPlugin or an ArtifactStore can be a default; take it out")
            if kind.namespaced and not manifest["metadata"].get("namespace"):
                raise ValueError(f"{path}: {kind} {manifest['metadata']['name']}: metadata.namespace: name one")
            manifests.append(manifest)
    return manifests


async def keep_applied(manifest: Object, cluster: Cluster, *, retry_seconds: float = FIRST_RETRY_SECONDS) -> None:
    """Apply one default once, however long the API server, or the making of its namespace, needs."""
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
    """A plugin is the release's: it is kept as it was shipped. A store is its users': it is made where there is none.

    Raises ClusterError.
    """
    if key_of(manifest).kind == ARTIFACT_STORE:
        await _make_once(manifest, cluster)
    else:
        await _keep_as_shipped(manifest, cluster)


async def _make_once(manifest: Object, cluster: Cluster) -> None:
    live = await look_up(cluster, key_of(manifest))
    if live is None:
        await cluster.create(manifest)
        log.info("made a default", object=_name(manifest))
    elif not covers(live, manifest):
        log.warning("left a store alone that is another one than the release's default", object=_name(manifest))


async def _keep_as_shipped(manifest: Object, cluster: Cluster) -> None:
    try:
        live = await cluster.get(key_of(manifest))
        version = {field: live["metadata"][field] for field in ("uid", "resourceVersion")}
    except NotFound:
        live, version = None, {"resourceVersion": ABSENT}
    if live is None or not covers(live, manifest):
        await cluster.apply({**manifest, "metadata": {**manifest["metadata"], **version}})
        log.info("applied a default", object=_name(manifest))


def _name(manifest: Object) -> str:
    kind, namespace, name = key_of(manifest)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
