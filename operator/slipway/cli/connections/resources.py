"""The resources that a command line names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from slipway.api.errors import NotFound
from slipway.api.kinds import API_VERSION, GROUP, MODEL_DEPLOYMENT, TRAINING_JOB, Key, Kind, Object
from slipway.cli.rendering.errors import NOT_FOUND, USAGE, CommandError
from slipway.cluster.port import Reader, look_up

_KINDS = {
    **dict.fromkeys(("tj", "trainingjob", "trainingjobs"), TRAINING_JOB),
    **dict.fromkeys(("md", "modeldeployment", "modeldeployments"), MODEL_DEPLOYMENT),
}


class Target(NamedTuple):
    """A name, and the kinds that it may be of."""

    kinds: tuple[Kind, ...]
    name: str

    def __str__(self) -> str:
        return "/".join((self.kinds[0].kind.lower(), self.name)) if len(self.kinds) == 1 else self.name


def parse_target(text: str) -> Target:
    """`NAME` or `KIND/NAME`, with the kind as kubectl takes it. Raises CommandError for any other kind."""
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
        return [
            obj for kind in (TRAINING_JOB, MODEL_DEPLOYMENT) for obj in await list_objects(cluster, kind, namespace)
        ]
    found = [obj for kind in target.kinds if (obj := await look_up(cluster, Key(kind, namespace, target.name)))]
    if not found:
        what = " or ".join(kind.kind for kind in target.kinds)
        raise CommandError(f"no {what} {target.name!r} in namespace {namespace!r}", NOT_FOUND)
    return found


async def list_objects(
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
