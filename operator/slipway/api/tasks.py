"""Tasks of pods: one JSON in the variable SLIPWAY_TASK, which `python -m slipway.runtime` reads.

A long task is in the file TASK_FILE of TASK_DIR, and the variable then has the digest of its text.

The other half of the contract is reports.py. Paths are constants, so a manifest shows what a pod may read and write: a
claim is mounted by sub-paths, the inputs read-only and the pod's own folder read-write. If SLIPWAY_STORE names a bucket
instead, both are scratch (emptyDir): inputs are downloaded into one, and results are uploaded from the other.

    STORE_DIR      the store, read-only: on a claim only the task's inputs, each at its path below the store's root
    HELD_OUT_DIR   the same for the store that is reserved for evaluation data; only deciding tasks have it
    OUT_DIR        the task's own folder of the store, read-write
      artifact/       the result: written elsewhere and renamed, complete if it has a manifest.json
      output/         the output of a user's script (SLIPWAY_OUTPUT_DIR)
      reports/        <Job UID>-<index>.json, a copy of the termination message
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from slipway.api.artifacts import ArtifactRef, Dataset
from slipway.api.base import DIGEST_PATTERN, Model, Open
from slipway.api.entrypoint import Entrypoint

STORE_DIR = "/var/lib/slipway/store"
HELD_OUT_DIR = "/var/lib/slipway/held-out"
OUT_DIR = "/var/lib/slipway/out"
TASK_DIR = "/var/lib/slipway/task"
TASK_FILE = "task.json"
SCRATCH_DIR = "/tmp"  # noqa: S108 - an emptyDir of the pod
REPOSITORY_DIR = "/repository"
"""Folder of the repository that `fetch` copies: an emptyDir of the serving pod."""
MODELS_DIR = f"{REPOSITORY_DIR}/models"
"""Triton's --model-repository. A folder below REPOSITORY_DIR, so that Triton does not take golden/ for a model."""

TERMINATION_LOG = "/dev/termination-log"
LOOPBACK = "127.0.0.1"
"""Address of a pod that trains alone: no Service names it."""

FOLDER_ENV = {
    STORE_DIR: "SLIPWAY_STORE_DIR",
    HELD_OUT_DIR: "SLIPWAY_HELD_OUT_DIR",
    OUT_DIR: "SLIPWAY_OUT_DIR",
    TASK_DIR: "SLIPWAY_TASK_DIR",
    SCRATCH_DIR: "SLIPWAY_SCRATCH_DIR",
    REPOSITORY_DIR: "SLIPWAY_REPOSITORY_DIR",
    TERMINATION_LOG: "SLIPWAY_TERMINATION_LOG",
}
"""Variable that moves each path: without a cluster a pod is a process, and nothing is mounted."""
TRITON_ENV = "SLIPWAY_TRITON"
"""HOST:PORT at which the golden probe finds its pod's Triton; localhost:8000 if it is not set."""

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
"""JSON of the location of the ArtifactStore for evaluation data, as in its spec; absent if it is the same store."""
HELD_OUT_SECRET_ENV = {key: name.replace("SLIPWAY_", "SLIPWAY_HELD_OUT_", 1) for key, name in S3_SECRET_ENV.items()}
OUT_STORE_ENV = "SLIPWAY_OUT_STORE"
"""HELD_OUT if OUT_DIR is a folder of that store; absent if it is one of the store itself."""
S3_OPTIONAL_KEYS = frozenset({"AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"})
"""Keys that the Secret may lack."""
TASK_ENV = "SLIPWAY_TASK"
JOB_UID_ENV = "SLIPWAY_JOB_UID"
"""The Job's UID, by the downward API from the pod's label batch.kubernetes.io/controller-uid."""
OUT_URI_ENV = "SLIPWAY_OUT_URI"
"""URI of OUT_DIR in the store, such as `store:///steps/<digest>`: the start of a report's artifact URI."""
OUTPUT_ENV = "SLIPWAY_OUTPUT_DIR"
"""Folder for the output of a user's script; `slipway.runtime.save` writes there, too."""
DATA_ENV = "SLIPWAY_DATA"
"""JSON of the paths of the data sets by name, for `slipway.runtime.data`."""
INDEX_ENV = "JOB_COMPLETION_INDEX"

MODEL_BYTES = "model_bytes"
"""Metric by which pods of Slipway report the size of the model that they read; sizes from plugins are not used."""

REPOSITORY_PROBE = f"{REPOSITORY_DIR}/golden/probe.py"
"""`python3 REPOSITORY_PROBE` exits 0 if Triton answers the golden requests as the artifact does; it needs only the
standard library."""
REPOSITORY_FRONTEND = f"{REPOSITORY_DIR}/frontend.py"
"""`python3 REPOSITORY_FRONTEND tritonserver FLAG...` serves; `fetch` writes it beside the repository."""


class DataRef(Model):
    """A prepared data set, with the name by which the code reads it."""

    name: str
    artifact: ArtifactRef


class Rendezvous(Model):
    """Rendezvous endpoint of the torchrun agents of one attempt (c10d)."""

    id: str
    """Unique per attempt."""
    host: str | None = None
    """DNS name of the pod of index 0, which hosts torch's store; absent for one pod, which keeps it in a file."""
    port: int = 29400
    timeout_seconds: int = 600
    """Seconds that agents wait for each other, image pulls included."""


class PrepareTask(Model):
    """Write one split of a built-in data set as an artifact of state dataset."""

    task: Literal["prepare"] = "prepare"
    dataset: Dataset
    split: Literal["train", "test"]


class TrainTask(Model):
    """Run torchrun in-process as PID 1; index 0 then seals the output of rank 0 (state module or onnx)."""

    task: Literal["train"] = "train"
    entrypoint: Entrypoint
    data: tuple[DataRef, ...] = ()
    nodes: int
    processes_per_node: int
    rendezvous: Rendezvous


class SealTask(Model):
    """Make an artifact of the files that a user's image wrote to OUT_DIR/output."""

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
    """A task whose result decides what may serve: it runs only code of Slipway, on verified copies."""

    held_out_fields: ClassVar[frozenset[str]] = frozenset()
    """Names of its fields that refer to held-out data, or to results for its single samples."""
    leaves_held_out: ClassVar[bool] = False
    """True if its result has results for single samples of held-out data."""


class EvaluateTask(DecidingTask):
    """Run an ONNX model on a data set; writes predictions, reports accuracy and the model's size."""

    held_out_fields = frozenset({"data"})
    leaves_held_out = True

    task: Literal["evaluate"] = "evaluate"
    model: ArtifactRef
    data: DataRef


class CompareTask(DecidingTask):
    """Count the samples on which two sets of predictions differ; reports counts, writes nothing."""

    task: Literal["compare"] = "compare"
    baseline: ArtifactRef
    candidate: ArtifactRef


class PackageTask(DecidingTask):
    """Package an ONNX model as a Triton model repository, with golden requests. Reports the model's size."""

    held_out_fields = frozenset({"data"})

    task: Literal["package"] = "package"
    model: ArtifactRef
    name: str
    """The model's name in Triton."""
    max_batch_size: int
    data: DataRef | None = None
    """Data for the golden inputs; absent for random inputs of the model's own shapes."""


class FetchTask(DecidingTask):
    """Copy a repository to REPOSITORY_DIR and check its digest: the init container of serving pods."""

    task: Literal["fetch"] = "fetch"
    artifact: ArtifactRef


class RecoverTask(Model):
    """Find the report of a Job whose pods are gone, in `reports/` of a folder of the store."""

    task: Literal["recover"] = "recover"
    uri: str
    """OUT_DIR of the lost Job."""
    job_uid: str


class CheckTask(Model):
    """Check a bucket: list, read, write, and write on a condition. Leaves one small object, always the same."""

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
    """Return the task in the text. Raises pydantic.ValidationError for anything else."""
    return _TASK.validate_json(text)


def task_digest(text: bytes) -> str:
    """Return the digest by which SLIPWAY_TASK names the text of a task in a file."""
    return f"sha256:{sha256(text).hexdigest()}"


def is_task_digest(value: str) -> bool:
    """Return True if the value of SLIPWAY_TASK is a digest, so the task is in a file."""
    return re.fullmatch(DIGEST_PATTERN, value) is not None
