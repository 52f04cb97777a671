"""What a plan says of a cluster in which the digits serve already, before anybody edits anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.api.kinds import (
    ARTIFACT_STORE,
    JOB,
    MODEL_DEPLOYMENT,
    STEP,
    TRAINING_JOB,
    WATCHED,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.cli.rendering.plan import difference_lines, named_nodes, plan_errors, totals
from slipway.cli.rendering.plan_summary import aligned, entries
from slipway.cluster.twin import Twin
from slipway.manifests import Manifests, read_manifests
from slipway.plan.observation import Observation
from slipway.plan.plan import Settings
from slipway.preview.dry_run import Clock, DryRun
from slipway.preview.plan_preview import ORDER, PlanPreview, preview_plan
from slipway.preview.tree import render_tree
from slipway.reconcile.cache import Cache
from slipway.reconcile.planners import PLANNERS
from support.builders import SETTINGS, T0, plugins

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
Edit = Callable[[Object], None]


@pytest.fixture
def manifests() -> Manifests:
    return read_manifests([str(DIGITS / f"{name}.yaml") for name in ("store", "training", "deployment")])


@pytest.fixture
async def present(manifests: Manifests) -> list[Object]:
    """All that is there when the digits have been trained, made small, evaluated and served."""
    clock = Clock(T0)
    twin = Twin(clock)
    made = [key_of(twin.add(obj)) for obj in (*plugins(), *manifests.objects)]
    keys = sorted((key for key in made if key.kind in PLANNERS), key=lambda key: ORDER.index(key.kind))
    await DryRun(twin, clock, PLANNERS, SETTINGS, tuple(keys)).run()
    return [obj for kind in WATCHED for obj in await twin.list(kind)]


async def begun(objects: list[Object], *planned: Kind) -> list[Object]:
    """These objects, and what the first looks of an operator at some kinds made."""
    twin = Twin(Clock(T0))
    cache = Cache()
    twin.subscribe(lambda change: cache.put(change.object))
    made = [key_of(twin.add(obj)) for obj in (*plugins(), *objects)]
    keys = sorted((key for key in made if key.kind in planned), key=lambda key: ORDER.index(key.kind))

    async def plans(key: Key) -> None:
        owner = await twin.get(key)
        plan = PLANNERS[key.kind](owner, Observation(cache, SETTINGS, T0))
        for obj in plan.apply:
            await twin.apply(obj)
        for obj in plan.create:
            await twin.create(obj)
        if plan.status is not None:
            twin.edit(key, lambda obj: obj.update(status=plan.status))

    for key in 2 * keys:  # an intent first, then what it is for
        await plans(key)
    for step in list(cache.objects(STEP)):
        await plans(key_of(step))
    return [obj for kind in WATCHED for obj in await twin.list(kind)]


async def after(
    manifests: Manifests, present: list[Object], kind: str, edit: Edit, settings: Settings = SETTINGS
) -> PlanPreview:
    for obj in manifests.objects:
        if obj["kind"] == kind:
            edit(obj["spec"])
    return await preview_plan(manifests.objects, present, PLANNERS, settings, T0)


def last(preview: PlanPreview) -> list[str]:
    """What becomes of the revisions."""
    node = render_tree(preview)[-1].below[-1]
    return [node.text, *node.notes]


async def test_an_unchanged_file_changes_nothing(manifests: Manifests, present: list[Object]) -> None:
    preview = await after(manifests, present, MODEL_DEPLOYMENT.kind, lambda _: None)
    assert (preview.good, preview.differs, preview.names) == (True, False, {})
    assert totals(preview, manifests, live=True)[-2:] == ["Nothing would change.", "Nothing was written."]
    assert last(preview)[0].endswith("continues to serve: no rollout")


def short(preview: PlanPreview) -> list[str]:
    """The lines of `slipway plan`, with the hashes of names left out."""
    lines = [line for line, _ in aligned(entries(preview, named_nodes(preview)))]
    return [re.sub(r"digits-[0-9a-f]{6}(-[0-9a-f]{10})?", "digits-HASH", line) for line in lines]


async def test_a_plan_of_what_is_there_says_in_short_that_it_stays(manifests: Manifests, present: list[Object]) -> None:
    preview = await after(manifests, present, MODEL_DEPLOYMENT.kind, lambda _: None)
    assert short(preview) == [
        "ArtifactStore default    will be Ready",
        "TrainingJob digits       will be Ready",
        "    reuses   the model that it has left",
        "ModelDeployment digits   will be Ready",
        "    takes    the model of TrainingJob digits",
        "    serves   revision digits-HASH: 1 replica of Triton, as before",
    ]


async def test_a_plan_of_other_steps_says_in_short_what_is_made_again_and_what_serves_instead(
    manifests: Manifests, present: list[Object]
) -> None:
    def quantize_alone(spec: Object) -> None:
        del spec["compression"]["steps"][0]

    preview = await after(manifests, present, MODEL_DEPLOYMENT.kind, quantize_alone)
    assert short(preview)[-5:] == [
        "    takes    the model of TrainingJob digits",
        "    reuses   convert-baseline, evaluate-baseline, prepare-evaluation, prepare-train",
        "    makes    step-0-quantize-int8, evaluate-candidate, compare, package",
        "    serves   revision digits-HASH-<revision>: 1 replica of Triton, in place of",
        "             digits-HASH",
    ]


async def test_a_plan_of_a_training_under_way_says_in_short_that_it_goes_on(manifests: Manifests) -> None:
    others = [obj for obj in manifests.objects if obj["kind"] != MODEL_DEPLOYMENT.kind]
    present = await begun(others, ARTIFACT_STORE, TRAINING_JOB)
    preview = await preview_plan(others, present, PLANNERS, SETTINGS, T0)
    assert short(preview)[1:] == [
        "TrainingJob digits      will be Ready",
        "    continues   prepare-test, prepare-train",
        "    trains      2 nodes of pool gpu x 1 process",
    ]


async def test_other_replicas_only_scale(manifests: Manifests, present: list[Object]) -> None:
    preview = await after(
        manifests, present, MODEL_DEPLOYMENT.kind, lambda spec: spec["serving"].update({"replicas": 3})
    )
    lines = difference_lines(preview)
    assert (len(lines), lines[0][:20], lines[1]) == (2, "~ Deployment digits-", "    spec.replicas: 1 -> 3")
    assert last(preview)[1].endswith("is only scaled: 1 -> 3 replicas")


async def test_other_steps_roll_and_only_what_depends_on_them_is_done_again(
    manifests: Manifests, present: list[Object]
) -> None:
    def prune_less(spec: Object) -> None:
        spec["compression"]["steps"][0]["params"]["ratio"] = 0.25

    preview = await after(manifests, present, MODEL_DEPLOYMENT.kind, prune_less)
    made = Counter(change.key.kind for change in preview.changes if change.verb == "create")
    assert (preview.good, made[STEP], made[JOB]) == (True, 6, 6)
    assert last(preview)[0].startswith("rolls out revision digits-")
    assert "traffic moves from revision" in last(preview)[1]
    jobs = [line for line in difference_lines(preview) if line.startswith("+ Job")]
    assert [line.partition("<")[2].partition(">")[0] for line in jobs] == [
        "md step-0-prune-structured", "md convert", "md step-1-quantize-int8", "md evaluate-candidate", "md compare",
        "md package",
    ]  # fmt: skip


async def test_an_edit_that_the_api_server_would_refuse_is_told_where_it_is_written(
    manifests: Manifests, present: list[Object]
) -> None:
    preview = await after(manifests, present, TRAINING_JOB.kind, lambda spec: spec.update(processesPerNode=4))
    assert not preview.good
    assert list(plan_errors(preview, manifests, live=True)) == [
        f"{DIGITS / 'training.yaml'}:5:1: spec.processesPerNode: the API server would refuse it: processesPerNode is"
        " immutable; to change it, delete the resource and create it again"
    ]


async def test_a_plugin_that_the_files_change_is_planned_for_whom_it_serves(
    manifests: Manifests, present: list[Object]
) -> None:
    quantize = next(obj for obj in present if obj["metadata"]["name"] == "quantize-int8")
    newer = {**quantize, "spec": {**quantize["spec"], "version": "2.0.0"}}
    preview = await preview_plan([newer], present, PLANNERS, SETTINGS, T0)
    assert [(edit.verb, edit.key.name) for edit in preview.edits] == [("change", "quantize-int8")]
    assert [key.name for key in preview.after] == ["digits"]
    assert preview.changes == ()  # neither an operator's upgrade nor a refreshed plugin rolls anybody's model


async def test_a_store_that_no_operator_has_looked_at_yet_is_looked_at(manifests: Manifests) -> None:
    store, training, deployment = (
        read_manifests([str(DIGITS / f"{name}.yaml")]).objects for name in ("store", "training", "deployment")
    )
    present = await begun(store)
    preview = await preview_plan([*training, *deployment], present, PLANNERS, SETTINGS, T0)
    assert list(plan_errors(preview, manifests, live=True)) == []
    assert preview.expected(Key(ARTIFACT_STORE, "default", "default")).state == "ready"


async def test_a_training_that_is_under_way_is_taken_to_its_end(manifests: Manifests) -> None:
    deployment = read_manifests([str(DIGITS / "deployment.yaml")])
    others = [obj for obj in manifests.objects if obj["kind"] != MODEL_DEPLOYMENT.kind]
    present = await begun(others, ARTIFACT_STORE, TRAINING_JOB)
    assert [obj["metadata"]["name"] for obj in present if obj["kind"] == JOB.kind] != []
    preview = await preview_plan(deployment.objects, present, PLANNERS, SETTINGS, T0)
    assert list(plan_errors(preview, deployment, live=True)) == []
    assert [key.kind for key in preview.after] == [TRAINING_JOB, MODEL_DEPLOYMENT]


async def test_what_is_missing_in_the_cluster_itself_is_not_looked_for_there_again(manifests: Manifests) -> None:
    training = read_manifests([str(DIGITS / "training.yaml")])
    preview = await preview_plan(training.objects, [], PLANNERS, SETTINGS, T0)
    [said] = plan_errors(preview, training, live=True)
    assert said.endswith('there is no ArtifactStore "default" in this namespace; create it')
    [said] = plan_errors(preview, training, live=False)
    assert said.endswith("name its file too, or plan with --live")
