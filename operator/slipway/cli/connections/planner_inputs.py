"""What planners read of a cluster: its objects, and the images of its operator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from slipway.api.kinds import COMPRESSION_PLUGIN, CONTROLLER_REVISION, GPU_POOL, SERVICE, WATCHED, Kind, Object
from slipway.cli.connections.resources import list_objects
from slipway.cli.rendering.errors import USAGE, CommandError
from slipway.cluster.port import Cluster, Reader, gather_calls
from slipway.doctor.installation import operator_settings
from slipway.plan.plan import Settings
from slipway.reconcile.references import MANAGED, SELECTED

_CLUSTER_WIDE = (GPU_POOL, COMPRESSION_PLUGIN)


async def list_planner_inputs(cluster: Reader, namespaces: Sequence[str]) -> list[Object]:
    """Return all that planners of these namespaces may read. Raises CommandError for a cluster without Slipway."""
    kinds = [kind for kind in WATCHED if kind.namespaced]
    calls = [list_objects(cluster, kind, None) for kind in _CLUSTER_WIDE]
    calls += [_list_ours(cluster, kind, namespace) for kind in kinds for namespace in namespaces]
    return [obj for found in await gather_calls(calls) for obj in found]


async def _list_ours(cluster: Reader, kind: Kind, namespace: str) -> list[Object]:
    # A Service of another owner may have the name of ours; of other kinds only our own matter.
    return await list_objects(cluster, kind, namespace, MANAGED if kind in SELECTED and kind is not SERVICE else None)


async def planner_settings(
    cluster: Cluster, objects: Sequence[Object], given: tuple[str | None, str | None], namespaces: Collection[str]
) -> Settings:
    """Return the settings of the operator that serves these namespaces: its images decide what is done already.

    given: runtime and serving image, if the user names them. Raises CommandError for images that cannot be found.
    """
    runtime, serving = given
    if runtime and serving:
        return Settings(runtime, serving)
    known = await operator_settings(cluster, namespaces) or _recorded(objects)
    if known is None:
        what = "the operator's images cannot be found in the cluster; give --runtime-image and --serving-image"
        raise CommandError(what, USAGE)
    return replace(known, runtime_image=runtime or known.runtime_image, serving_image=serving or known.serving_image)


def _recorded(objects: Sequence[Object]) -> Settings | None:
    """As the newest revision was rendered with them."""
    records = [obj for obj in objects if obj["kind"] == CONTROLLER_REVISION.kind and obj.get("data", {}).get("images")]
    if not records:
        return None
    newest = max(records, key=lambda obj: int(obj.get("revision", 0)))
    images = newest["data"]["images"]
    return Settings(images["fetch"], images["triton"])
