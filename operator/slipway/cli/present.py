"""What a cluster holds now, as far as planners read it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from slipway.api.errors import Forbidden, NotFound
from slipway.api.kinds import (
    API_VERSION,
    COMPRESSION_PLUGIN,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    GPU_POOL,
    GROUP,
    SERVICE,
    WATCHED,
    Kind,
    Object,
)
from slipway.cli.exits import NOT_FOUND, USAGE, CommandError
from slipway.cli.together import together
from slipway.cluster.port import Cluster
from slipway.plan.plan import Settings
from slipway.reconcile.references import MANAGED, SELECTED

CLUSTER_WIDE = (GPU_POOL, COMPRESSION_PLUGIN)
OPERATOR = {"app.kubernetes.io/part-of": "slipway"}
"""Labels of the operator's own Deployment, as the chart sets them."""
_IMAGES = ("SLIPWAY_RUNTIME_IMAGE", "SLIPWAY_SERVING_IMAGE")


async def present(cluster: Cluster, namespaces: Sequence[str]) -> list[Object]:
    """All that planners of these namespaces may read. Raises CommandError where the cluster knows no Slipway."""
    kinds = [kind for kind in WATCHED if kind.namespaced]
    calls = [_list(cluster, kind, None) for kind in CLUSTER_WIDE]
    calls += [_list(cluster, kind, namespace) for kind in kinds for namespace in namespaces]
    return [obj for found in await together(calls) for obj in found]


async def _list(cluster: Cluster, kind: Kind, namespace: str | None) -> Sequence[Object]:
    # Somebody else's Service may stand in the way of ours; of other kinds only our own matter.
    labels = MANAGED if kind in SELECTED and kind is not SERVICE else None
    try:
        return await cluster.list(kind, namespace, labels)
    except NotFound as error:
        if kind.group != GROUP:
            raise
        message = f"the cluster does not know {kind.plural} of {API_VERSION}: install Slipway"
        raise CommandError(message, NOT_FOUND) from error


async def settings_of(
    cluster: Cluster, objects: Sequence[Object], given: tuple[str | None, str | None], namespaces: Collection[str]
) -> Settings:
    """With the images of the operator that serves these namespaces: they decide what is done already, and what is not.

    given: runtime and serving image, if the user names them. Raises CommandError if they cannot be found.
    """
    runtime, serving = given
    if runtime and serving:
        return Settings(runtime, serving)
    known = await _images_of_operator(cluster, namespaces) or _recorded(objects)
    if known is None:
        what = "the operator's images cannot be found in the cluster; give --runtime-image and --serving-image"
        raise CommandError(what, USAGE)
    return replace(known, runtime_image=runtime or known.runtime_image, serving_image=serving or known.serving_image)


def serves(deployment: Object, namespace: str) -> bool:
    """Whether the operator of this Deployment of the chart serves the namespace."""
    served = arguments_of(deployment, "--namespace")
    return not served or namespace in served


def arguments_of(deployment: Object, option: str) -> list[str]:
    """What the operator's command line gives for an option, as `--option=VALUE`; an empty text for a flag."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    words = [str(word).partition("=") for container in containers for word in container.get("args") or ()]
    return [value for name, _, value in words if name == option]


async def _images_of_operator(cluster: Cluster, namespaces: Collection[str]) -> Settings | None:
    """As the operator's Deployment has them; None if it cannot be seen."""
    try:
        found = await cluster.list(DEPLOYMENT, None, OPERATOR)
    except Forbidden:
        return None
    # Several releases may be in the cluster, each with images of its own.
    found = [one for one in found if any(serves(one, namespace) for namespace in namespaces)] or found
    for deployment in found:
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            env = {one["name"]: one.get("value") for one in container.get("env", ())}
            if all(env.get(name) for name in _IMAGES):
                policy = env.get("SLIPWAY_IMAGE_PULL_POLICY") or "IfNotPresent"
                mirrors = (env.get("SLIPWAY_IMAGE_MIRRORS") or "").split()
                return Settings(env[_IMAGES[0]], env[_IMAGES[1]], policy, tuple(mirrors))
    return None


def _recorded(objects: Sequence[Object]) -> Settings | None:
    """As the newest revision was rendered with them."""
    records = [obj for obj in objects if obj["kind"] == CONTROLLER_REVISION.kind and obj.get("data", {}).get("images")]
    if not records:
        return None
    newest = max(records, key=lambda obj: int(obj.get("revision", 0)))
    images = newest["data"]["images"]
    return Settings(images["fetch"], images["triton"])
