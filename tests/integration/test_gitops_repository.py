"""The example repository for GitOps: commits and their reverts, carried out on the twin as Flux and Argo CD do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from slipway.api.kinds import DEPLOYMENT, MODEL_DEPLOYMENT, RECONCILED, TRAINING_JOB, WATCHED, Key, Object, key_of
from support.builders import NAMESPACE, plugins
from support.faults.scenario import Scenario, Step, at_once, placed, play
from support.faults.twin_stage import TwinStage
from support.faults.world import World
from support.gitops import REPOSITORY, rendered
from support.refusals import RESOURCE_OF
from support.states import jobs_made, silent, status_of, traffic
from support.validators import validate_by_model

DIGITS = Key(MODEL_DEPLOYMENT, NAMESPACE, "digits")
KINDS = {kind.kind: kind for kind in WATCHED}


class Repository:
    """A clone of the example; a GitOps controller keeps one overlay applied to a stage."""

    def __init__(self, folder: Path, overlay: str) -> None:
        shutil.copytree(REPOSITORY, folder)
        self.folder, self.overlay, self.stage = folder, overlay, TwinStage()
        self._synchronised = 0

    def changes(self, file: str, old: str, new: str) -> Repository:
        """A commit that replaces a text wherever the file has it."""
        path = self.folder / "base" / file
        before = path.read_text()
        assert old in before, f"{file} has no {old!r}"
        path.write_text(before.replace(old, new))
        return self

    async def synchronised(self) -> str:
        """Apply what the overlay says, and let all come to rest. The revision that serves then."""
        self._synchronised += 1
        wanted = [placed(obj, NAMESPACE) for obj in rendered(self.folder / self.overlay)]

        async def synchronise(world: World) -> None:
            for obj in wanted:
                await apply(world, obj)
            await prune(world, wanted)

        first = plugins() if self._synchronised == 1 else ()
        step = Step("the overlay is applied", at_once, synchronise)
        await play(Scenario(f"synchronised {self._synchronised}", first, [step]), self.stage)
        await silent(self.stage)
        for obj in wanted:
            live = await self.stage.twin.get(key_of_written(obj))
            assert live["spec"] == obj["spec"], "something else than Git has written to the spec"
            assert live["metadata"].get("annotations") == obj["metadata"].get("annotations")
        status = await status_of(self.stage, DIGITS)
        assert (status["phase"], status["serving"]) == ("Ready", await traffic(self.stage, DIGITS))
        return str(status["serving"])

    async def replicas(self) -> dict[str, int]:
        """Of every revision that is still there."""
        found = await self.stage.twin.list(DEPLOYMENT, NAMESPACE)
        return {obj["metadata"]["name"]: obj["spec"]["replicas"] for obj in found}

    @property
    def jobs(self) -> int:
        """How many Jobs ever ran."""
        return jobs_made(self.stage)


def key_of_written(obj: Object) -> Key:
    return Key(KINDS[obj["kind"]], NAMESPACE, obj["metadata"]["name"])


async def apply(world: World, obj: Object) -> None:
    key = key_of_written(obj)
    if await world.admin.get(key) is None:
        await world.admin.create(obj)
    else:
        await world.admin.edit(key, lambda live: live.update(spec=obj["spec"]))


async def prune(world: World, wanted: Sequence[Object]) -> None:
    """Delete what the repository no longer has, but for what it told both controllers to keep."""
    for kind in RECONCILED:
        for live in await world.admin.list(kind, world.namespace):
            told = live["metadata"].get("annotations", {})
            kept = "Prune=false" in told.get("argocd.argoproj.io/sync-options", "")
            assert kept == (told.get("kustomize.toolkit.fluxcd.io/prune") == "disabled")
            if not kept and key_of(live) not in [key_of_written(obj) for obj in wanted]:
                await world.admin.delete(key_of(live))


@pytest.fixture(params=["staging", "production"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models", request.param)


def test_an_overlay_holds_nothing_that_the_api_does_not_take(repository: Repository) -> None:
    ours = [obj for obj in rendered(repository.folder / repository.overlay) if obj["kind"] in RESOURCE_OF]
    assert {obj["kind"] for obj in ours} == {"ArtifactStore", "TrainingJob", "ModelDeployment"}
    for obj in ours:
        said = validate_by_model(obj["kind"], obj["spec"])
        assert not isinstance(said, list), said


async def test_a_reverted_compression_serves_again_and_no_job_runs(repository: Repository) -> None:
    first = await repository.synchronised()
    wanted = (await repository.replicas())[first]
    second = await repository.changes("deployment.yaml", "ratio: 0.5", "ratio: 0.25").synchronised()
    jobs = repository.jobs
    assert second != first
    assert await repository.replicas() == {first: 0, second: wanted}
    assert await repository.changes("deployment.yaml", "ratio: 0.25", "ratio: 0.5").synchronised() == first
    assert await repository.replicas() == {first: wanted, second: 0}
    assert repository.jobs == jobs


async def test_a_reverted_model_serves_again_and_nothing_is_trained(repository: Repository) -> None:
    first = await repository.synchronised()
    repository.changes("training.yaml", "name: digits-1", "name: digits-2")
    repository.changes("training.yaml", "epochs: 10", "epochs: 20")
    second = await repository.changes("deployment.yaml", "digits-1", "digits-2").synchronised()
    jobs = repository.jobs
    assert second != first
    assert len(await repository.stage.twin.list(TRAINING_JOB, NAMESPACE)) == 2
    repository.changes("training.yaml", "name: digits-2", "name: digits-1")
    repository.changes("training.yaml", "epochs: 20", "epochs: 10")
    assert await repository.changes("deployment.yaml", "digits-2", "digits-1").synchronised() == first
    assert repository.jobs == jobs


async def test_synchronising_again_without_a_commit_writes_nothing(repository: Repository) -> None:
    await repository.synchronised()
    writes = len(repository.stage.calls.writes)
    await repository.synchronised()
    assert len(repository.stage.calls.writes) == writes
