"""Which folders a task's pods mount: found by one function, in every reference that a task can hold."""

from __future__ import annotations

import pytest

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import Model
from slipway.api.tasks import (
    CompareTask,
    CompressTask,
    DataRef,
    EvaluateTask,
    FetchTask,
    PackageTask,
    PrepareTask,
    RecoverTask,
    SealTask,
)
from slipway.plan.taskinput import inputs_of
from support.builders import DIGEST

STEP, OTHER = f"steps/{'a' * 64}", f"steps/{'b' * 64}"


def ref(path: str) -> ArtifactRef:
    return ArtifactRef(uri=f"store:///{path}", digest=DIGEST)


def compress(model: str, data: str | None = None, **params: object) -> CompressTask:
    given = DataRef(name="train", artifact=ref(data)) if data else None
    return CompressTask(entry_point="x", version="1", model=ref(model), data=given, params=params)


@pytest.mark.parametrize(
    ("task", "folders"),
    [
        (compress("models/one"), ["models/one"]),
        (compress("models/one", "data/train"), ["models/one", "data/train"]),
        (compress(f"{STEP}/artifact", f"{OTHER}/artifact"), [STEP, OTHER]),
        (compress("training/uid-1/3/artifact"), ["training/uid-1/3"]),
        (EvaluateTask(model=ref("m"), data=DataRef(name="e", artifact=ref("d"))), ["m", "d"]),
        (CompareTask(baseline=ref("a"), candidate=ref("b")), ["a", "b"]),
        (PackageTask(model=ref("m"), name="n", max_batch_size=1), ["m"]),
        (FetchTask(artifact=ref(f"{STEP}/artifact-uid")), [STEP]),
        (RecoverTask(uri="store:///training/uid/1", job_uid="u"), ["training/uid/1"]),
        (RecoverTask(uri=f"store:///{STEP}", job_uid="u"), [STEP]),
        (PrepareTask(dataset="digits", split="test"), []),
        (SealTask(), []),
    ],
)
def test_a_task_mounts_what_it_refers_to(task: Model, folders: list[str]) -> None:
    assert list(inputs_of(task)) == folders


class Several(Model):
    first: ArtifactRef
    second: ArtifactRef
    third: ArtifactRef
    fourth: ArtifactRef
    fifth: ArtifactRef


def test_the_inputs_of_some_fields_come_in_the_order_of_the_task() -> None:
    """Taken in the order of a set, the mounts of a Job would differ from process to process."""
    names = list(Several.model_fields)
    task = Several(**{name: ref(name) for name in names})
    assert list(inputs_of(task, frozenset(names[1:]))) == names[1:]


def test_what_parameters_refer_to_is_mounted_too() -> None:
    teacher = {"uri": "store:///models/teacher", "digest": DIGEST, "temperature": 2}
    task = compress("m", params={"deep": [{"teacher": teacher}]})
    assert list(inputs_of(task)) == ["models/teacher", "m"]


@pytest.mark.parametrize(
    "value",
    [
        {"uri": "store:///models/../secret", "digest": DIGEST},
        {"uri": "store:///.hidden", "digest": DIGEST},
        {"uri": "store:///", "digest": DIGEST},
        {"uri": "https://models.example/x", "digest": DIGEST},
        {"uri": "store:///models/x", "digest": "latest"},
        {"uri": "store:///models/x"},
        {"uri": 3, "digest": 4},
        "store:///models/x",
    ],
)
def test_parameters_that_only_look_like_a_reference_mount_nothing(value: object) -> None:
    assert list(inputs_of(compress("m", x=value))) == ["m"]


def test_a_folder_is_mounted_once_and_nothing_inside_of_it_again() -> None:
    task = compress("data", "data/train", one=ref("data").to_wire(), two=ref("data-2").to_wire())
    assert list(inputs_of(task)) == ["data", "data-2"]
