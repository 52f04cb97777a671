"""A local cluster that runs the objects of files."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from slipway.api.errors import SlipwayError
from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    PVC,
    TRAINING_JOB,
    Key,
    Object,
    key_of,
)
from slipway.cluster.twin import Twin
from slipway.local import admission, network, snapshot
from slipway.local.cluster import LocalCluster, now, running
from slipway.local.environment import Sources
from slipway.local.images import find_triton, local_images, sweep
from slipway.local.kubelet import present_devices
from slipway.local.pod import settle_pods
from slipway.local.state import opened
from slipway.local.validation import IGNORED, SOURCES, Offer, Refusal, foreign, refusals, unfit
from slipway.plan.deployment.manifests import GRPC_PORT, HTTP_PORT, METRICS_PORT


class Refused(SlipwayError):
    """The files ask for what cannot be done without a cluster."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("; ".join(str(refusal) for refusal in refusals))
        self.refusals = refusals


@asynccontextmanager
async def session(
    root: Path, files: Sequence[Object], *, cpu: bool = False, replace: bool = False
) -> AsyncIterator[LocalCluster]:
    """Bring on what the files hold, with what earlier runs left in the folder, until the block ends.

    files: checked objects, with namespace and defaults. cpu: processors stand in for the devices of pools.
    replace: what may not be changed is deleted and made anew.
    Raises Refused, StateError, TritonMissing, AddressError; and whatever ends the loop.
    """
    plugins, broken = admission.installed_plugins()
    if found := [*foreign(files), *unfit(files)]:
        raise Refused(found)
    taken = [obj for obj in files if obj["kind"] not in (*SOURCES, *IGNORED)]
    named = {obj["metadata"]["name"] for obj in taken if obj["kind"] == COMPRESSION_PLUGIN.kind}
    with opened(root) as state:
        twin = snapshot.load(state.objects, now)
        wanted = [*(body for name, body in plugins.items() if name not in named), *taken]
        if cpu:
            wanted = admission.on_processors(wanted)
        kept = await _kept(twin, wanted)
        wanted += admission.default_stores([*kept, *wanted])
        offer = Offer(
            {key_of(obj): obj for obj in [*kept, *wanted]},
            sources_of(files),
            plugins,
            broken,
            None if cpu else present_devices(),
        )
        found = refusals(wanted, offer)
        if not replace:
            found += await admission.refused_changes(twin, wanted)
        if found:
            raise Refused(found)
        active = admission.active_resources(wanted)
        serves = any(key.kind == MODEL_DEPLOYMENT for key in active)
        images = local_images(find_triton(state.triton) if serves else None)
        with network.block() as block:
            if serves:
                sweep(block)
                _check_ports(block)
            await settle_pods(twin, state)
            await admission.admit(twin, admission.of_this_environment(wanted), replace=replace)
            await admission.keep_only(twin, {*plugins, *named})
            async with running(twin, state, images, offer.sources, block, active) as cluster:
                yield cluster


def sources_of(files: Iterable[Object]) -> Sources:
    """The ConfigMaps and Secrets among the files."""
    found = [obj for obj in files if obj["kind"] in SOURCES]
    return Sources(
        {(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): _content(obj) for obj in found}
    )


def _content(obj: Object) -> dict[str, bytes]:
    """A ConfigMap's data are texts and its binaryData base64; a Secret's data are base64 and its stringData texts."""
    texts, coded = ("data", "binaryData") if obj["kind"] == "ConfigMap" else ("stringData", "data")
    content = {name: base64.b64decode(text) for name, text in (obj.get(coded) or {}).items()}
    return content | {name: str(text).encode() for name, text in (obj.get(texts) or {}).items()}


async def _kept(twin: Twin, wanted: Sequence[Object]) -> list[Object]:
    """What earlier runs left and no file has now."""
    names: set[Key] = {key_of(obj) for obj in wanted}
    kinds = (ARTIFACT_STORE, GPU_POOL, PVC, TRAINING_JOB)
    return [obj for kind in kinds for obj in await twin.list(kind) if key_of(obj) not in names]


def _check_ports(block: str) -> None:
    """Raises AddressError where a program listens on a port of Triton's at all addresses, ours included."""
    if taken := network.taken_ports(f"{block}.1", (HTTP_PORT, GRPC_PORT, METRICS_PORT)):
        ports = ", ".join(map(str, taken))
        raise network.AddressError(
            f"port {ports} is taken at all addresses by another program, and Triton listens there; end that program"
        )
