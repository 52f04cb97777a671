"""What the operator asks of a pod: one JSON in the variable SLIPWAY_TASK, read by `python -m slipway.runtime`.

A long one lies in the file TASK_FILE of TASK_DIR, and the variable then holds the digest of its text.

The other half of the contract is reports.py. Paths are constants, so a manifest shows what a pod may touch: a claim
is mounted by sub-paths: the inputs read-only, and the pod's own folder read-write. Where SLIPWAY_STORE names a bucket
instead, both are scratch (emptyDir): what is read is downloaded into the one, what is made is uploaded from the other.

    STORE_DIR      the store, read-only: of a claim the task's inputs alone, each at its path below the store's root
    HELD_OUT_DIR   likewise of the store that is kept for evaluation data; deciding tasks alone have it
    OUT_DIR        the task's own folder of the store, read-write
      artifact/       what it made: complete when manifest.json lies in it, written elsewhere and renamed
      output/         what a user's script writes (SLIPWAY_OUTPUT_DIR)
      reports/        <Job UID>-<index>.json, the termination message once more
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import DIGEST_PATTERN, Model, Open
from slipway.api.datasource import Dataset
from slipway.api.entrypoint import Entrypoint

STORE_DIR = "/var/lib/slipway/store"
HELD_OUT_DIR = "/var/lib/slipway/held-out"
OUT_DIR = "/var/lib/slipway/out"
TASK_DIR = "/var/lib/slipway/task"
TASK_FILE = "task.json"
SCRATCH_DIR = "/tmp"  # noqa: S108 - an emptyDir of the pod
REPOSITORY_DIR = "/repository"
"""Where `fetch` puts a packed repository: an emptyDir of the serving pod."""
MODELS_DIR = f"{REPOSITORY_DIR}/models"
"""Triton's --model-repository. A folder below REPOSITORY_DIR, so that Triton takes golden/ for no model."""

TERMINATION_LOG = "/dev/termination-log"
LOOPBACK = "127.0.0.1"
"""The address at which a pod that trains alone finds itself: no Service names it."""

FOLDER_ENV = {
    STORE_DIR: "SLIPWAY_STORE_DIR",
    HELD_OUT_DIR: "SLIPWAY_HELD_OUT_DIR",
    OUT_DIR: "SLIPWAY_OUT_DIR",
    TASK_DIR: "SLIPWAY_TASK_DIR",
    SCRATCH_DIR: "SLIPWAY_SCRATCH_DIR",
    REPOSITORY_DIR: "SLIPWAY_REPOSITORY_DIR",
    TERMINATION_LOG: "SLIPWAY_TERMINATION_LOG",
}
"""The variable that moves each path: without a cluster a pod is a process, and nothing is mounted."""
TRITON_ENV = "SLIPWAY_TRITON"
"""HOST:PORT at which the golden probe finds its pod's Triton; localhost:8000 where it is not set."""

STORE_ENV = "SLIPWAY_STORE"
"""JSON of an ArtifactStore's spec.s3; absent for a claim."""
S3_SECRET_ENV = {
    "AWS_ACCESS_KEY_ID": "SLIPWAY_S3_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY": "SLIPWAY_S3_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN": "SLIPWAY_S3_SESSION_TOKEN",
    "AWS_CA_BUNDLE": "SLIPWAY_S3_CA_BUNDLE",
}
"""Key of the store's Secret -> variable. Not AWS's own names: those belong to the user's code."""
HELD_OUT = "held-out"
HELD_OUT_STORE_ENV = "SLIPWAY_HELD_OUT_STORE"
"""JSON of where the ArtifactStore for evaluation data is, as in its spec; absent where that is the store itself."""
HELD_OUT_SECRET_ENV = {key: name.replace("SLIPWAY_", "SLIPWAY_HELD_OUT_", 1) for key, name in S3_SECRET_ENV.items()}
OUT_STORE_ENV = "SLIPWAY_OUT_STORE"
"""HELD_OUT if OUT_DIR is a folder of that store; absent if it is one of the store itself."""
S3_OPTIONAL_KEYS = frozenset({"AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"})
"""Keys without which pods start all the same."""
TASK_ENV = "SLIPWAY_TASK"
JOB_UID_ENV = "SLIPWAY_JOB_UID"
"""The Job's UID, by the downward API from the pod's label batch.kubernetes.io/controller-uid."""
OUT_URI_ENV = "SLIPWAY_OUT_URI"
"""OUT_DIR as the store knows it, as `store:///steps/<digest>`: what a report's artifact URI starts with."""
OUTPUT_ENV = "SLIPWAY_OUTPUT_DIR"
"""Where a user's script writes its files; also what `slipway.runtime.save` uses."""
DATA_ENV = "SLIPWAY_DATA"
"""JSON of the data sets by name, each a path: what `slipway.runtime.data` reads."""
INDEX_ENV = "JOB_COMPLETION_INDEX"

MODEL_BYTES = "model_bytes"
"""The metric by which a pod of ours reports the size of the model that it read: no plugin's word is taken for it."""

REPOSITORY_PROBE = f"{REPOSITORY_DIR}/golden/probe.py"
"""`python3 REPOSITORY_PROBE` exits 0 when Triton answers the golden requests as the artifact does; it needs nothing
but the standard library."""
REPOSITORY_FRONTEND = f"{REPOSITORY_DIR}/frontend.py"
"""`python3 REPOSITORY_FRONTEND tritonserver FLAG...` serves; `fetch` puts it there, beside what is packed."""


class DataRef(Model):
    """A prepared data set under the name that the code asks for."""

    name: str
    artifact: ArtifactRef


class Rendezvous(Model):
    """Where the torchrun agents of one attempt meet (c10d)."""

    id: str
    """Unique per attempt."""
    host: str | None = None
    """DNS name of the pod of index 0, which hosts the store; absent for one pod, which keeps it in a file."""
    port: int = 29400
    timeout_seconds: int = 600
    """How long agents wait for each other, image pulls included."""


class PrepareTask(Model):
    """Write one split of a built-in data set as an artifact of state dataset."""

    task: Literal["prepare"] = "prepare"
    dataset: Dataset
    split: Literal["train", "test"]


class TrainTask(Model):
    """Run torchrun in-process as PID 1; index 0 then seals what rank 0 left (state module or onnx)."""

    task: Literal["train"] = "train"
    entrypoint: Entrypoint
    data: tuple[DataRef, ...] = ()
    nodes: int
    processes_per_node: int
    rendezvous: Rendezvous


class SealTask(Model):
    """Make an artifact of the files that a user's image left under OUT_DIR/output."""

    task: Literal["seal"] = "seal"


class CompressTask(Model):
    """Run one plugin, or one conversion, on a model."""

    task: Literal["compress"] = "compress"
    entry_point: str
    """Name in the entry-point group slipway.plugins."""
    version: str
    """The version that its CompressionPlugin names; a pod that holds another one fails."""
    params: Open = Field(default_factory=dict)
    model: ArtifactRef
    data: DataRef | None = None
    """Calibration and fine-tuning data."""
    seed: int = 0


class DecidingTask(Model):
    """A task whose result decides what may serve: it runs our code alone, and uses nothing but verified copies."""

    held_out_fields: ClassVar[frozenset[str]] = frozenset()
    """Names of its fields that refer to held-out data, or to what was computed from it sample by sample."""
    leaves_held_out: ClassVar[bool] = False
    """What it leaves was computed from held-out data sample by sample."""


class EvaluateTask(DecidingTask):
    """Run an ONNX model over a data set; leaves predictions, reports accuracy and the model's size."""

    held_out_fields = frozenset({"data"})
    leaves_held_out = True

    task: Literal["evaluate"] = "evaluate"
    model: ArtifactRef
    data: DataRef


class CompareTask(DecidingTask):
    """Count on which samples two sets of predictions differ; reports counts, leaves nothing."""

    task: Literal["compare"] = "compare"
    baseline: ArtifactRef
    candidate: ArtifactRef


class PackageTask(DecidingTask):
    """Pack an ONNX model as a Triton model repository, with golden requests made from it. Reports the model's size."""

    held_out_fields = frozenset({"data"})

    task: Literal["package"] = "package"
    model: ArtifactRef
    name: str
    """The model's name in Triton."""
    max_batch_size: int
    data: DataRef | None = None
    """Where golden inputs come from; random ones from the model's own input shape where absent."""


class FetchTask(DecidingTask):
    """Copy a repository to REPOSITORY_DIR and check its digest: the init container of serving pods."""

    task: Literal["fetch"] = "fetch"
    artifact: ArtifactRef


class RecoverTask(Model):
    """Find the reports of a Job whose pods are gone: reads `reports/` of a folder of the store."""

    task: Literal["recover"] = "recover"
    uri: str
    """The folder that was the lost Job's OUT_DIR."""
    job_uid: str


class CheckTask(Model):
    """Try a bucket: list, read, write, and write on a condition. Leaves one small object, always the same."""

    task: Literal["check"] = "check"


Task = Annotated[
    PrepareTask
    | TrainTask
    | SealTask
    | CompressTask
    | EvaluateTask
    | CompareTask
    | PackageTask
    | FetchTask
    | RecoverTask
    | CheckTask,
    Field(discriminator="task"),
]
_TASK: TypeAdapter[Task] = TypeAdapter(Task)


def parse_task(text: str) -> Task:
    """Raises pydantic.ValidationError for anything that is not a task."""
    return _TASK.validate_json(text)


def task_digest(text: bytes) -> str:
    """The digest by which SLIPWAY_TASK names the text of a task that lies in a file."""
    return f"sha256:{sha256(text).hexdigest()}"


def is_task_digest(value: str) -> bool:
    """Whether the value of SLIPWAY_TASK is a digest, and the task lies in a file."""
    return re.fullmatch(DIGEST_PATTERN, value) is not None
