"""Objects that commands look for: the resources that a command line names, and all that planners read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from slipway.api.errors import NotFound
from slipway.api.kinds import (
    API_VERSION,
    COMPRESSION_PLUGIN,
    CONTROLLER_REVISION,
    GPU_POOL,
    GROUP,
    MODEL_DEPLOYMENT,
    SERVICE,
    STEP,
    TRAINING_JOB,
    WATCHED,
    Key,
    Kind,
    Object,
)
from slipway.cli.rendering.errors import NOT_FOUND, USAGE, CommandError
from slipway.cluster.port import Cluster, Reader, gather_calls, look_up
from slipway.plan.owner import OWNER_LABELS

if TYPE_CHECKING:
    from slipway.plan.plan import Settings

_KINDS = {
    **dict.fromkeys(("tj", "trainingjob", "trainingjobs"), TRAINING_JOB),
    **dict.fromkeys(("md", "modeldeployment", "modeldeployments"), MODEL_DEPLOYMENT),
}
_CLUSTER_WIDE = (GPU_POOL, COMPRESSION_PLUGIN)


class Target(NamedTuple):
    """A name, and the kinds that it may be of."""

    kinds: tuple[Kind, ...]
    name: str

    def __str__(self) -> str:
        return "/".join((self.kinds[0].kind.lower(), self.name)) if len(self.kinds) == 1 else self.name


def parse_target(text: str) -> Target:
    """Parse `NAME` or `KIND/NAME`, with a kind as in kubectl. Raises CommandError for any other kind."""
    kind, slash, name = text.rpartition("/")
    if not slash:
        return Target((TRAINING_JOB, MODEL_DEPLOYMENT), name)
    found = _KINDS.get(kind.lower().removesuffix(".slipway.dev"))
    if found is None or not name:
        raise CommandError(f"{text!r}: write NAME, trainingjob/NAME (tj) or modeldeployment/NAME (md)", USAGE)
    return Target((found,), name)


async def find_resources(cluster: Reader, namespace: str | None, target: Target | None) -> list[Object]:
    """Return the named resources (of each kind that has one of the name), or all; namespace: None for all of them.

    Raises CommandError for a name that no resource has, and for a cluster without Slipway.
    """
    if target is None or namespace is None:
        return [obj for kind in (TRAINING_JOB, MODEL_DEPLOYMENT) for obj in await _list(cluster, kind, namespace)]
    found = [obj for kind in target.kinds if (obj := await look_up(cluster, Key(kind, namespace, target.name)))]
    if not found:
        what = " or ".join(kind.kind for kind in target.kinds)
        raise CommandError(f"no {what} {target.name!r} in namespace {namespace!r}", NOT_FOUND)
    return found


async def with_steps(cluster: Reader, objects: Sequence[Object], namespace: str | None) -> list[Object]:
    """Return the resources, and behind them the Steps of those that may have some."""
    if not objects:
        return []
    owner: Mapping[str, str] = {}
    if len(objects) == 1:
        owner = {OWNER_LABELS[objects[0]["kind"]]: objects[0]["metadata"]["name"]}
    return [*objects, *await _list(cluster, STEP, namespace, owner)]


async def _list(
    cluster: Reader, kind: Kind, namespace: str | None, labels: Mapping[str, str] | None = None
) -> list[Object]:
    """Return the objects of a kind. Raises CommandError for a kind of ours that the cluster does not know."""
    try:
        return list(await cluster.list(kind, namespace, labels))
    except NotFound as error:
        if kind.group != GROUP:
            raise
        message = f"the cluster does not know {kind.plural} of {API_VERSION}: install Slipway"
        raise CommandError(message, NOT_FOUND) from error


# --- What planners read --------------------------------------------------------------------------------------------


async def list_planner_inputs(cluster: Reader, namespaces: Sequence[str]) -> list[Object]:
    """Return all that planners of these namespaces may read. Raises CommandError for a cluster without Slipway."""
    from slipway.reconcile.references import MANAGED, SELECTED

    def labels(kind: Kind) -> Mapping[str, str] | None:
        # A Service of another owner may have the name of ours; of other kinds only our own matter.
        return MANAGED if kind in SELECTED and kind is not SERVICE else None

    kinds = [kind for kind in WATCHED if kind.namespaced]
    calls = [_list(cluster, kind, None) for kind in _CLUSTER_WIDE]
    calls += [_list(cluster, kind, namespace, labels(kind)) for kind in kinds for namespace in namespaces]
    return [obj for found in await gather_calls(calls) for obj in found]


async def planner_settings(
    cluster: Cluster, objects: Sequence[Object], given: tuple[str | None, str | None], namespaces: Collection[str]
) -> Settings:
    """Return the settings of the operator that serves these namespaces: its images decide what is done already.

    given: runtime and serving image, if the user names them. Raises CommandError for images that cannot be found.
    """
    from slipway.doctor.installation import operator_settings
    from slipway.plan.plan import Settings

    runtime, serving = given
    if runtime and serving:
        return Settings(runtime, serving)
    known = await operator_settings(cluster, namespaces) or _recorded(objects)
    if known is None:
        what = "the operator's images cannot be found in the cluster; give --runtime-image and --serving-image"
        raise CommandError(what, USAGE)
    return replace(known, runtime_image=runtime or known.runtime_image, serving_image=serving or known.serving_image)


def _recorded(objects: Sequence[Object]) -> Settings | None:
    """Return the images of the newest revision."""
    from slipway.plan.plan import Settings

    records = [obj for obj in objects if obj["kind"] == CONTROLLER_REVISION.kind and obj.get("data", {}).get("images")]
    if not records:
        return None
    newest = max(records, key=lambda obj: int(obj.get("revision", 0)))
    images = newest["data"]["images"]
    return Settings(images["fetch"], images["triton"])
