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
from slipway.local.cluster import LocalCluster, now, run_local_cluster
from slipway.local.environment import Sources
from slipway.local.images import find_triton, make_images, remove_shared_memory
from slipway.local.kubelet import count_devices
from slipway.local.pod import recover_pods
from slipway.local.state import open_state_folder
from slipway.local.validation import (
    IGNORED,
    SOURCES,
    Available,
    FieldProblem,
    find_foreign_kinds,
    find_invalid_contents,
    find_unsupported_fields,
)
from slipway.plan.deployment.manifests import GRPC_PORT, HTTP_PORT, METRICS_PORT


class UnsupportedError(SlipwayError):
    """The files ask for what a run without a cluster cannot do. problems: every field that does."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@asynccontextmanager
async def open_session(
    root: Path, files: Sequence[Object], *, cpu: bool = False, replace: bool = False
) -> AsyncIterator[LocalCluster]:
    """Run the objects of the files, with what earlier runs left in the folder, until the block ends.

    root: the state folder. files: validated objects, with namespace and defaults. cpu: run on processors instead of the
    devices of pools. replace: delete and create again objects whose immutable fields have changed.
    Raises UnsupportedError, StateError, TritonMissing, AddressError, and any error that ends the loop.
    """
    plugins, broken = admission.describe_installed_plugins()
    if found := [*find_foreign_kinds(files), *find_invalid_contents(files)]:
        raise UnsupportedError(found)
    taken = [obj for obj in files if obj["kind"] not in (*SOURCES, *IGNORED)]
    named = {obj["metadata"]["name"] for obj in taken if obj["kind"] == COMPRESSION_PLUGIN.kind}
    with open_state_folder(root) as state:
        twin = snapshot.load(state.objects, now)
        wanted = [*(body for name, body in plugins.items() if name not in named), *taken]
        if cpu:
            wanted = admission.remove_devices(wanted)
        earlier = await _list_earlier(twin, wanted)
        wanted += admission.render_default_stores([*earlier, *wanted])
        available = Available(
            {key_of(obj): obj for obj in [*earlier, *wanted]},
            collect_sources(files),
            plugins,
            broken,
            None if cpu else count_devices(),
        )
        found = find_unsupported_fields(wanted, available)
        if not replace:
            found += await admission.find_immutable_changes(twin, wanted)
        if found:
            raise UnsupportedError(found)
        active = admission.find_active_resources(wanted)
        serves = any(key.kind == MODEL_DEPLOYMENT for key in active)
        images = make_images(find_triton(state.triton) if serves else None)
        with network.reserve_block() as block:
            if serves:
                remove_shared_memory(block)
                _check_ports(block)
            await recover_pods(twin, state)
            await admission.apply_objects(twin, admission.remove_plugin_images(wanted), replace=replace)
            await admission.remove_other_plugins(twin, {*plugins, *named})
            async with run_local_cluster(twin, state, images, available.sources, block, active) as cluster:
                yield cluster


def collect_sources(files: Iterable[Object]) -> Sources:
    """Return the contents of the ConfigMaps and Secrets among the files."""
    found = [obj for obj in files if obj["kind"] in SOURCES]
    return Sources(
        {(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): _decode_content(obj) for obj in found}
    )


def _decode_content(obj: Object) -> dict[str, bytes]:
    """Return bytes by key. data holds texts in a ConfigMap, base64 in a Secret; binaryData base64, stringData texts."""
    texts, coded = ("data", "binaryData") if obj["kind"] == "ConfigMap" else ("stringData", "data")
    content = {name: base64.b64decode(text) for name, text in (obj.get(coded) or {}).items()}
    return content | {name: str(text).encode() for name, text in (obj.get(texts) or {}).items()}


async def _list_earlier(twin: Twin, wanted: Sequence[Object]) -> list[Object]:
    """Return the objects that earlier runs left and that no file holds now."""
    names: set[Key] = {key_of(obj) for obj in wanted}
    kinds = (ARTIFACT_STORE, GPU_POOL, PVC, TRAINING_JOB)
    return [obj for kind in kinds for obj in await twin.list(kind) if key_of(obj) not in names]


def _check_ports(block: str) -> None:
    """Raise AddressError if another program listens on a port of Triton at all addresses, ours included."""
    if taken := network.find_taken_ports(f"{block}.1", (HTTP_PORT, GRPC_PORT, METRICS_PORT)):
        ports = ", ".join(map(str, taken))
        raise network.AddressError(
            f"port {ports}: another program listens there at all addresses, and Triton needs it; end that program"
        )
