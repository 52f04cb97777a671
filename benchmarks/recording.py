"""One TrainingJob's writes, as an operator made them, to be made again for another TrainingJob.

What differs between two jobs is put into the text as it becomes known: their UID and name, and, from the answers of
the API server, versions and the Job's UID. Texts are prepared beforehand, so that a replay costs next to nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from benchmarks.audit import Write
from benchmarks.client import APPLY, JSON, MERGE, Client

_METHODS = {"create": "POST", "patch": "PATCH", "update": "PUT", "delete": "DELETE"}
_NAMESPACE, _MARK, _UID, _NAME = "$NAMESPACE", "$MARK", "$UID", "$NAME"
_VERSION, _JOB_UID = "$VERSION", "$JOB_UID"


@dataclass(frozen=True, slots=True)
class Request:
    """answers: what is read of the answer: `version`, `job`, or nothing."""

    method: str
    path: str
    body: str
    content_type: str
    answers: str


@dataclass(frozen=True, slots=True)
class Recording:
    requests: tuple[Request, ...]

    @classmethod
    def of(cls, writes: Sequence[Write], training_job: Mapping[str, Any], job_uid: str | None) -> Self:
        """The writes of one TrainingJob; as it was answered to its creator. job_uid: of its Job, where it has one."""
        meta = training_job["metadata"]
        tokens = {meta["uid"]: _UID, _mark(meta["uid"]): _MARK, meta["namespace"]: _NAMESPACE, meta["name"]: _NAME}
        if job_uid:
            tokens[job_uid] = _JOB_UID
        return cls(tuple(_request(write, tokens) for write in writes))

    async def replay(self, client: Client, training_job: Mapping[str, Any]) -> None:
        """The same writes in the same order, for a TrainingJob as it was answered to its creator."""
        replay = Replay(training_job)
        for request in self.requests:
            await replay.make(client, request)

    def created(self, *resources: str) -> Recording:
        """What a client makes that keeps no record: these objects alone, one POST after another."""
        by_resource = {_collection(one.path).rsplit("/", 1)[1]: one for one in self.requests}
        return Recording(tuple(_as_create(by_resource[resource]) for resource in resources))


class Replay:
    """Recorded writes made again for one TrainingJob, given as it was answered to its creator."""

    def __init__(self, training_job: Mapping[str, Any]) -> None:
        meta = training_job["metadata"]
        own = {_NAMESPACE: meta["namespace"], _MARK: _mark(meta["uid"]), _NAME: meta["name"], _UID: meta["uid"]}
        self._known = {**own, _VERSION: meta["resourceVersion"], _JOB_UID: ""}

    async def make(self, client: Client, request: Request) -> None:
        path, body = self._filled(request.path), self._filled(request.body)
        answer = await client.call(request.method, path, body.encode(), request.content_type)
        if request.answers == "version":
            self._known[_VERSION] = json.loads(answer)["metadata"]["resourceVersion"]
        elif request.answers == "job":
            self._known[_JOB_UID] = json.loads(answer)["metadata"]["uid"]

    def _filled(self, text: str) -> str:
        for token, value in self._known.items():
            text = text.replace(token, value)
        return text


def save(recordings: Mapping[str, Recording], path: Path) -> None:
    """By TrainingJob's name, in the order in which they began."""
    path.write_text(json.dumps({name: [asdict(one) for one in each.requests] for name, each in recordings.items()}))


def load(path: Path) -> dict[str, Recording]:
    read = json.loads(path.read_text())
    return {name: Recording(tuple(Request(**one) for one in each)) for name, each in read.items()}


def _request(write: Write, tokens: Mapping[str, str]) -> Request:
    body = write.body
    answers = ""
    content_type = APPLY if write.verb == "patch" else JSON
    if write.resource == "trainingjobs/status":
        content_type, answers = MERGE, "version"
        body["metadata"]["resourceVersion"] = _VERSION
    elif write.resource == "jobs":
        answers = "job"
    path, text = write.uri, json.dumps(body)
    for value, token in tokens.items():
        path, text = path.replace(value, token), text.replace(value, token)
    return Request(_METHODS[write.verb], path, text, content_type, answers)


def _as_create(request: Request) -> Request:
    body = json.loads(request.body)
    body["metadata"].pop("resourceVersion", None)
    return Request("POST", _collection(request.path), json.dumps(body), JSON, request.answers)


def _collection(path: str) -> str:
    """Up to the resource's plural: `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL`."""
    before, _, rest = path.partition("/namespaces/")
    return "/".join((before, "namespaces", *rest.split("?")[0].split("/")[:2]))


def _mark(uid: str) -> str:
    """As children's names carry it."""
    return sha256(uid.encode()).hexdigest()[:6]


def training_job_of(write: Write) -> str:
    """The name of the TrainingJob that a write was made for; children are named `<name>-<mark>[-...]`."""
    name = write.name or write.body["metadata"]["name"]
    if write.resource.startswith("trainingjobs"):
        return name
    return name.split(".")[0] if write.resource == "events" else re.sub("-[0-9a-f]{6}(-.*)?$", "", name)
