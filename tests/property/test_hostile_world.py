"""Random histories of refusals, foreign edits, finalizers, dead pods and restarts beside a revision that serves."""

from __future__ import annotations

from random import Random

import pytest

from slipway.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Key,
    Object,
    key_of,
)
from slipway.cluster.statusschema import check_status
from support.builders import NAMESPACE
from support.hostile import DIGITS, HostileWorld, quota, webhook

CHILDREN = (JOB, SERVICE, DEPLOYMENT, CONTROLLER_REVISION, POD_DISRUPTION_BUDGET)
HISTORIES = 100
ACTS = 12


class History:
    """One life of a deployment in a world that means it harm; what holds is asked after every act."""

    def __init__(self, world: HostileWorld, random: Random) -> None:
        self.world, self.random = world, random
        self.orphans: list[tuple[Key, Object]] = []
        self.story: list[str] = []

    async def act(self) -> None:
        acts = (self.refuse, self.allow, self.orphan, self.give_back, self.kill, self.revive, self.edit, self.scale)
        more = (self.remove, self.hold, self.restart, self.unreadable, self.live)
        act = self.random.choice((*acts, *more))
        self.story.append(act.__name__)
        await act()
        await self.world.passes(0)
        await self.check()

    async def refuse(self) -> None:
        kind = self.random.choice(CHILDREN).kind
        verb = self.random.choice(("create", "apply", "delete"))
        if len(self.world.api.rules) < 3:
            self.world.api.rules.append(self.random.choice((quota, webhook))(verb, kind))

    async def allow(self) -> None:
        self.world.api.rules.clear()

    async def orphan(self) -> None:
        child = await self._child()
        if child is not None and "ownerReferences" in child["metadata"]:
            key = key_of(child)
            self.orphans.append((key, await self.world.orphans(key.kind, key.name)))

    async def give_back(self) -> None:
        for key, owners in self.orphans:
            live = {key_of(obj) for obj in await self.world.twin.list(key.kind)}
            if key in live and "ownerReferences" not in (await self.world.twin.get(key))["metadata"]:
                self.world.gives_back(key.kind, key.name, owners)
        self.orphans.clear()

    async def kill(self) -> None:
        self.world.pods_live = False
        await self.world.counts()

    async def revive(self) -> None:
        self.world.pods_live = True
        await self.world.counts()

    async def edit(self) -> None:
        ratio = self.random.randint(1, 9) / 10
        self.world.edits(compression={"steps": [{"plugin": "prune-structured", "params": {"ratio": ratio}}]})

    async def unreadable(self) -> None:
        self.world.edits(compression=["what a next version takes"])

    async def scale(self) -> None:
        self.world.edits(serving={"replicas": self.random.randint(1, 3)})

    async def remove(self) -> None:
        if (child := await self._child()) is not None:
            self.world.twin.remove(key_of(child))

    async def hold(self) -> None:
        if (child := await self._child()) is not None:
            self.world.twin.edit(key_of(child), lambda obj: obj["metadata"].update(finalizers=["example.com/keep"]))

    async def restart(self) -> None:
        await self.world.restart()

    async def live(self) -> None:
        await self.world.lives(self.random.randint(1, 4))

    async def check(self) -> None:
        """Within the round in which the world changed, the status says so."""
        status = await self.world.status()
        obj = await self.world.twin.get(DIGITS)
        assert await self.world.available() == await self.world.serves(), self.story
        assert status["observedGeneration"] == obj["metadata"]["generation"], self.story
        check_status("patch", DIGITS.kind, status, status)

    async def fixed(self) -> None:
        """All that stood in the way is gone."""
        await self.allow()
        await self.give_back()
        for kind in CHILDREN:
            for child in await self.world.twin.list(kind):
                if child["metadata"].get("finalizers"):
                    self.world.twin.edit(key_of(child), lambda obj: obj["metadata"].update(finalizers=[]))
        self.world.edits(compression={"steps": []}, serving={"replicas": 1})
        await self.revive()
        await self.world.lives(10)

    async def _child(self) -> Object | None:
        found = [obj for kind in CHILDREN for obj in await self.world.twin.list(kind)]
        return self.random.choice(found) if found else None


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_available_is_true_to_the_pods_after_whatever_happens_and_all_heals(seed: int) -> None:
    world = await HostileWorld().start()
    await world.lives(4)
    history = History(world, Random(seed))
    for _ in range(ACTS):
        await history.act()
    await history.fixed()
    status = await world.status()
    assert status["phase"] == "Ready", (history.story, status["conditions"])
    assert await world.traffic() == status["serving"] == status["candidate"]
    assert status["readyReplicas"] == 1
    assert len(await world.twin.list(POD_DISRUPTION_BUDGET)) == 1
    live = {obj["metadata"]["name"] for obj in await world.twin.list(DEPLOYMENT, NAMESPACE)}
    assert live <= {one["name"] for one in status["revisions"]}, history.story
