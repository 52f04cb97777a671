"""`slipway plan` against a real API server: what it says is what the cluster then holds, and it writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.api.kinds import CHILDREN, COMPRESSION_PLUGIN, GPU_POOL, MODEL_DEPLOYMENT, RECONCILED, Key, Object, key_of
from slipway.cli.connections.resources import list_planner_inputs
from slipway.cli.main import app
from slipway.cluster.apiserver import ApiServer as Port
from slipway.cluster.connection import Connection
from slipway.cluster.twin import WatchEvent
from slipway.manifests import read_manifests
from slipway.preview.changes import manifest_of
from slipway.preview.placeholders import placeholders_of, substitute
from slipway.preview.plan_preview import PlanPreview, preview_plan
from slipway.reconcile.drift import in_sync
from slipway.reconcile.planners import PLANNERS
from support.accounts import Account
from support.apiserver import ApiServer
from support.audit import audited_apiserver
from support.builders import T0, plugins
from support.faults.loop_stage import LoopStage
from support.faults.real_stage import real_stage
from support.faults.scenario import Scenario, Step, at_once, edits, placed, play
from support.faults.scenarios import OTHER
from support.loop_on_twin import SETTINGS

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
RECIPE = ("store.yaml", "training.yaml", "deployment.yaml")
SCRIPT = ("store.yaml", "script.yaml")


@dataclass
class Cluster:
    """A namespace with an operator, in which every Job succeeds. made: all children that ever were, as last seen."""

    stage: LoopStage
    connection: Connection
    made: dict[Key, Object] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.stage.world.namespace

    def hear(self, change: WatchEvent) -> None:
        key = key_of(change.object)
        if key.kind in CHILDREN and change.object["metadata"].get("ownerReferences"):
            self.made[key] = change.object

    async def apply(self, name: str, objects: Sequence[Object], *steps: Step) -> None:
        """Create the objects, take the steps, and let all come to rest."""
        await play(Scenario(name, objects, steps), self.stage)

    async def offered(self) -> list[Object]:
        """The plugins and pools of the server, which all namespaces share."""
        port = Port(self.connection)
        return [obj for kind in (COMPRESSION_PLUGIN, GPU_POOL) for obj in await port.list(kind)]

    async def present(self) -> list[Object]:
        return await list_planner_inputs(Port(self.connection), [self.namespace])

    async def parents(self) -> list[Object]:
        return [obj for kind in RECONCILED for obj in await Port(self.connection).list(kind, self.namespace)]


@pytest.fixture
async def cluster(apiserver: ApiServer) -> AsyncIterator[Cluster]:
    async with serving(apiserver) as found:
        yield found


@asynccontextmanager
async def serving(apiserver: ApiServer) -> AsyncIterator[Cluster]:
    async with await Connection.open(str(apiserver.kubeconfig)) as connection, real_stage(connection) as stage:
        found = Cluster(stage, connection)
        stage.shown.subscribe(found.hear)
        yield found


def example(files: Sequence[str], namespace: str) -> list[Object]:
    return read_manifests([str(EXAMPLES / name) for name in files], namespace=namespace).objects


def without_results(obj: Object) -> Object:
    """Without what no plan can know: the time in a ControllerRevision, and the sizes of results, which tasks and Steps
    carry and by which pods ask for memory."""
    kept = {name: value for name, value in obj.items() if (obj["kind"], name) != ("ControllerRevision", "revision")}
    text = re.sub(r',? ?\\?"sizeBytes\\?": ?\d+', "", json.dumps(kept))
    return dict(json.loads(re.sub(r'"memory": "\d+[MG]i"', '"memory": "by size"', text)))


def said(preview: PlanPreview) -> dict[str, Object]:
    """What a plan would make or change, by kind and name."""
    objects = [manifest_of(change.after) for change in preview.changes if change.after is not None]
    return by_name(objects, preview.names)


def by_name(objects: Sequence[Object], names: dict[str, str]) -> dict[str, Object]:
    found = [without_results(substitute(obj, names)) for obj in objects]
    return {f"{obj['kind']} {obj['metadata']['name']}": obj for obj in found}


@pytest.mark.parametrize("files", [RECIPE, SCRIPT], ids=["recipe", "script"])
async def test_from_files_alone_it_says_what_the_cluster_then_holds(cluster: Cluster, files: Sequence[str]) -> None:
    objects = [*plugins(), *example(files, cluster.namespace)]
    await cluster.apply("from files", objects)
    preview = await preview_plan([*await cluster.offered(), *objects[3:]], (), PLANNERS, SETTINGS, T0)
    held = by_name([manifest_of(obj) for obj in cluster.made.values()], placeholders_of(await cluster.parents()))
    planned = said(preview)
    assert preview.good
    assert sorted(planned) == sorted(held)
    assert [name for name, obj in planned.items() if not in_sync(held[name], obj)] == []


async def test_from_a_cluster_it_says_what_an_edit_then_makes_changes_and_deletes(cluster: Cluster) -> None:
    objects = example(RECIPE, cluster.namespace)
    await cluster.apply("before", [*plugins(), *objects])
    wanted = [edited(obj, compression=OTHER) for obj in objects]
    before, past = set(cluster.made), await cluster.parents()
    preview = await preview_plan(wanted, await cluster.present(), PLANNERS, SETTINGS, cluster.stage.clock.now())
    assert [(edit.verb, edit.key.name) for edit in preview.edits] == [("change", "digits")]
    cluster.made.clear()
    edit = edits(MODEL_DEPLOYMENT, "digits", compression=OTHER)
    await cluster.apply("edit", (), Step("it is edited", at_once, edit))
    names = placeholders_of(await cluster.parents(), past)
    held = by_name([manifest_of(obj) for obj in cluster.made.values()], names)
    planned = said(preview)
    new = {f"{change.key.kind} {change.key.name}" for change in preview.changes if change.verb == "create"}
    assert {str(substitute(name, preview.names)) for name in new} == {
        str(substitute(f"{key.kind} {key.name}", names)) for key in cluster.made if key not in before
    }
    assert [name for name, obj in planned.items() if name not in held or not in_sync(held[name], obj)] == []


async def test_an_unchanged_spec_changes_nothing_and_a_revert_goes_back_without_a_job(cluster: Cluster) -> None:
    objects = example(RECIPE, cluster.namespace)
    await cluster.apply("before", [*plugins(), *objects])
    now = cluster.stage.clock.now
    preview = await preview_plan(objects, await cluster.present(), PLANNERS, SETTINGS, now())
    assert (preview.good, preview.differs) == (True, False)
    edit = edits(MODEL_DEPLOYMENT, "digits", compression=OTHER)
    await cluster.apply("edit", (), Step("it is edited", at_once, edit))
    preview = await preview_plan(objects, await cluster.present(), PLANNERS, SETTINGS, now())
    assert {change.key.kind.kind for change in preview.changes} == {"Deployment", "Service"}
    assert {change.verb for change in preview.changes} == {"change"}


def edited(obj: Object, **fields: object) -> Object:
    return {**obj, "spec": {**obj["spec"], **fields}} if obj["kind"] == MODEL_DEPLOYMENT.kind else obj


def test_live_only_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with audited_apiserver(tmp_path) as (server, log):
        server.must("POST", "/api/v1/namespaces", {"metadata": {"name": "team"}})
        account = Account("team", "planner")
        account.make_administrator(server)
        for obj in example(RECIPE, "team")[1:2]:
            server.must("POST", "/apis/slipway.dev/v1alpha1/namespaces/team/artifactstores", placed(obj, "team"))
        monkeypatch.setenv("KUBECONFIG", str(account.kubeconfig(server, tmp_path / "kubeconfig")))
        images = ["--runtime-image", "a:1", "--serving-image", "b:1"]
        files = [word for name in RECIPE for word in ("-f", str(EXAMPLES / name))]
        result = CliRunner().invoke(app, ["plan", "-n", "team", "--live", *files, *images])
        calls = log.calls(account.user)
        assert "Nothing was written." in result.stdout, result.stderr
        assert len(calls) > 10
        assert [call for call in calls if call.writes] == []
