"""Which resources a command line names."""

from __future__ import annotations

from typing import NamedTuple

from slipway.api.errors import NotFound
from slipway.api.kinds import API_VERSION, MODEL_DEPLOYMENT, TRAINING_JOB, Key, Kind, Object
from slipway.cli.exits import NOT_FOUND, USAGE, CommandError
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


async def resources(cluster: Reader, namespace: str | None, target: Target | None) -> list[Object]:
    """The named resources (of each kind that has one of the name), or all of the namespace; None is all namespaces.

    Raises CommandError where the name is nobody's, or the cluster knows no Slipway.
    """
    if target is None or namespace is None:
        return [obj for kind in (TRAINING_JOB, MODEL_DEPLOYMENT) for obj in await _list(cluster, kind, namespace)]
    found = [obj for kind in target.kinds if (obj := await look_up(cluster, Key(kind, namespace, target.name)))]
    if not found:
        what = " or ".join(kind.kind for kind in target.kinds)
        raise CommandError(f"no {what} {target.name!r} in namespace {namespace!r}", NOT_FOUND)
    return found


async def _list(cluster: Reader, kind: Kind, namespace: str | None) -> list[Object]:
    try:
        return list(await cluster.list(kind, namespace))
    except NotFound as error:
        raise CommandError(
            f"the cluster does not know {kind.plural} of {API_VERSION}: install Slipway", NOT_FOUND
        ) from error
