"""The operator under the chart's own role: by the audit log, what it asks for and what it may do are the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from slipway.api.kinds import MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object
from slipway.cluster.connection import Connection
from support.accounts import Account
from support.apiserver import ApiServer
from support.audit import AuditLog, Call, audited_apiserver
from support.builders import model_deployment, pool
from support.chart import NAMESPACE, granted, of_kind, rendered, roles_of_the_operator
from support.faults.operations import fails, works
from support.faults.real_admin import RealAdmin
from support.faults.scenario import Condition, edits, gone, placed
from support.faults.scenarios import DIGITS, SERVES, compression, job, store_objects
from support.faults.world import World
from support.http_proxy import CarryOut, http_proxy
from support.operator_process import running_operator
from support.places import Json

Right = tuple[str, str, str]
"""Verb, API group, resource with its subresource."""
HERE = "permissions"
LIMIT_SECONDS = 120
API = {"ClusterRole": "clusterroles", "Role": "roles", "ClusterRoleBinding": "clusterrolebindings"}
API |= {"RoleBinding": "rolebindings"}
ONE_NAMESPACE = {
    "namespaces": [HERE],
    "defaultStore": {"enabled": True, "name": "shared", "claim": {"existing": "models"}},
}


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[tuple[ApiServer, AuditLog]]:
    with audited_apiserver(tmp_path) as found:
        yield found


class FirstWritesMeetAnother:
    """The first write of each verb and kind is a Conflict: another user was faster, so the operator looks again."""

    def __init__(self) -> None:
        self._met: set[tuple[str, str]] = set()

    async def meddle(self, request: web.Request, _carry_out: CarryOut) -> web.Response | None:
        parts = request.path.strip("/").split("/")
        after = parts.index("namespaces") + 2 if "namespaces" in parts else 3
        write = (request.method, "/".join([*parts[after : after + 1], *parts[after + 2 :]]))
        if request.method == "GET" or write in self._met:
            return None
        self._met.add(write)
        await request.read()
        reason = "AlreadyExists" if request.method == "POST" else "Conflict"
        status = {"kind": "Status", "apiVersion": "v1", "code": 409, "reason": reason, "message": "changed"}
        return web.json_response(status, status=409)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("values", [{}, ONE_NAMESPACE], ids=["everywhere", "one namespace and its store"])
def test_what_the_operator_asks_for_is_what_the_chart_lets_it_do(
    audited: tuple[ApiServer, AuditLog], tmp_path: Path, values: Json
) -> None:
    server, log = audited
    release = rendered(values)
    account = Account(NAMESPACE, "slipway")
    for namespace in (NAMESPACE, HERE):
        server.must("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    for kind, plural in API.items():
        for role in of_kind(release, kind):
            within = f"namespaces/{role['metadata']['namespace']}/" if "namespace" in role["metadata"] else ""
            server.must("POST", f"/apis/rbac.authorization.k8s.io/v1/{within}{plural}", role)
    defaults = tmp_path / "defaults"
    defaults.mkdir()
    for name, text in of_kind(release, "ConfigMap")[0]["data"].items():
        (defaults / name).write_text(text)
    token = account.kubeconfig(server, tmp_path / "token.kubeconfig")
    way_in = tmp_path / "kubeconfig"
    lease = ("--lease-namespace", NAMESPACE, "--lease-name", "slipway-operator")
    served = [word for namespace in values.get("namespaces", ()) for word in ("--namespace", namespace)]
    flags = (*lease, *served, "--defaults", str(defaults), "--resync-seconds", "5")
    with (
        http_proxy(server, way_in, FirstWritesMeetAnother().meddle, account=token),
        running_operator(way_in, tmp_path / "log", *flags) as operator,
    ):
        operator.wait_until_ready()
        asyncio.run(all_that_it_does(server))
        assert operator.process.poll() is None
    calls = log.calls(account.user)
    assert [call for call in calls if call.forbidden] == []
    may = {
        (verb, group, resource)
        for role in roles_of_the_operator(release)
        for (group, resource), verbs in granted(role).items()
        for verb in verbs
    }
    used = {right for call in calls for right in rights_of(call)}
    assert (sorted(used - may), sorted(may - used)) == ([], [])


def rights_of(call: Call) -> list[Right]:
    """An apply that made its object was asked for both."""
    verbs = [call.verb, "create"] if call.verb == "patch" and call.code == 201 else [call.verb]
    return [(verb, call.group, call.resource) for verb in verbs]


async def all_that_it_does(server: ApiServer) -> None:
    """Training on a pool, with a restart and a TTL; a deployment, and updates until the first revision goes."""
    async with await Connection.open(str(server.kubeconfig)) as connection:
        admin = RealAdmin(connection)
        world = World(admin, HERE, lambda: datetime.fromtimestamp(time.time(), UTC), works)
        world.collects = False
        world.operations = {"train/1": fails()}
        for obj in (*store_objects(), pool(), job(pools=["h100"]), model_deployment()):
            await admin.create(placed(obj, HERE))
        await until(SERVES, world)
        for ratio in (0.25, 0.75, 0.9):
            await edits(MODEL_DEPLOYMENT, DIGITS, compression=compression(ratio))(world)
            await until(SERVES, world)
        await edits(TRAINING_JOB, DIGITS, ttlAfterFinished="1s")(world)
        await until(gone("train"), world)
        await until(three_revisions, world)


async def three_revisions(world: World) -> bool:
    live: Object = await world.admin.get(Key(MODEL_DEPLOYMENT, HERE, DIGITS)) or {}
    return len(live["status"]["revisions"]) == 3


async def until(condition: Condition, world: World) -> None:
    """The world goes on until that has come."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await condition(world):
            if not await world.move():
                await asyncio.sleep(0.05)  # between two questions; the wait is for the operator
