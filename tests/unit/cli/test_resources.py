"""What the command line knows of the operator that serves a namespace."""

from __future__ import annotations

import pytest

from slipway.api.errors import Forbidden
from slipway.api.kinds import DEPLOYMENT, Kind, Object
from slipway.cli.connections.resources import planner_settings
from slipway.cli.rendering.errors import CommandError
from slipway.cluster.twin import Twin
from support.builders import T0


def operator(namespace: str, runtime: str, *served: str) -> Object:
    env = [{"name": "SLIPWAY_RUNTIME_IMAGE", "value": runtime}, {"name": "SLIPWAY_SERVING_IMAGE", "value": "serving"}]
    container = {"name": "operator", "args": [f"--namespace={one}" for one in served], "env": env}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": "slipway", "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "slipway"}},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


async def runtime_image(*operators: Object, namespace: str = "team") -> str:
    twin = Twin(lambda: T0)
    for one in operators:
        await twin.create(one)
    return (await planner_settings(twin, (), (None, None), {namespace})).runtime_image


async def test_of_several_releases_the_images_are_those_of_the_one_that_serves() -> None:
    both = (operator("north", "runtime:north", "other"), operator("south", "runtime:south", "team"))
    assert await runtime_image(*both) == "runtime:south"
    assert await runtime_image(*reversed(both)) == "runtime:south"
    assert await runtime_image(*both, namespace="other") == "runtime:north"


async def test_a_release_without_namespaces_serves_all() -> None:
    assert await runtime_image(operator("north", "runtime:north")) == "runtime:north"


async def test_where_none_serves_the_namespace_yet_the_images_are_those_of_the_one_that_there_is() -> None:
    assert await runtime_image(operator("north", "runtime:north", "other")) == "runtime:north"


async def test_images_that_cannot_be_seen_are_asked_for_by_their_options() -> None:
    class MayNotList(Twin):
        async def list(self, kind: Kind, namespace: str | None = None, labels: object = None) -> list[Object]:
            raise Forbidden("no")

    with pytest.raises(CommandError, match="give --runtime-image and --serving-image"):
        await planner_settings(MayNotList(lambda: T0), (), (None, None), {"team"})
