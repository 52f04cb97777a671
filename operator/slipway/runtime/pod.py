"""The pod that a task runs in: its task, its store and folders, its Job, and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from slipway.api.artifacts import URI_PREFIX, ArtifactRef, State, store_path
from slipway.api.artifactstore import ArtifactStoreSpec, S3Store
from slipway.api.errors import ArtifactError, InputMissing, StoreAway, StoreError
from slipway.api.reports import PairedCounts, Report, encode_report
from slipway.api.tasks import (
    FOLDER_ENV,
    HELD_OUT,
    HELD_OUT_DIR,
    HELD_OUT_SECRET_ENV,
    HELD_OUT_STORE_ENV,
    INDEX_ENV,
    JOB_UID_ENV,
    OUT_DIR,
    OUT_STORE_ENV,
    OUT_URI_ENV,
    OUTPUT_ENV,
    REPOSITORY_DIR,
    S3_SECRET_ENV,
    SCRATCH_DIR,
    STORE_DIR,
    STORE_ENV,
    TASK_DIR,
    TASK_ENV,
    TASK_FILE,
    TERMINATION_LOG,
    Task,
    is_task_digest,
    parse_task,
    task_digest,
)
from slipway.runtime.store import FolderStore, Store
from slipway.sdk.artifact import Artifact

ARTIFACT = "artifact"
"""The name of what a task makes, below its own folder."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The stores, folders and identity of the pod. Each folder can be moved by its variable (FOLDER_ENV), for a
    process.
    """

    store: Store
    """Store of the artifacts."""
    held_out: Store
    """Store of the evaluation data: the same one unless another is reserved for it."""
    results: Store
    """Store, of the two, that has the task's own folder."""
    out: Path
    """The task's own folder: on the claim, or in this pod until it is uploaded."""
    output: Path
    """Folder for the output of a user's script."""
    scratch: Path
    repository: Path
    """Folder that Triton reads models from."""
    termination_log: Path
    out_uri: str
    """URI of `out` in the store."""
    job_uid: str
    index: int
    """Completion index of the pod in its Job."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the pod that the variables describe. Raises ValueError for an index that is not a number."""

        def folder(path: str) -> Path:
            return Path(environment.get(FOLDER_ENV[path], path))

        out = folder(OUT_DIR)
        store = _store(environment, folder(STORE_DIR), out, folder(SCRATCH_DIR))
        held_out = _held_out(environment, folder(HELD_OUT_DIR), out, folder(SCRATCH_DIR)) or store
        return cls(
            store=store,
            held_out=held_out,
            results=held_out if environment.get(OUT_STORE_ENV) == HELD_OUT else store,
            out=out,
            output=Path(environment.get(OUTPUT_ENV, out / "output")),
            scratch=folder(SCRATCH_DIR),
            repository=folder(REPOSITORY_DIR),
            termination_log=folder(TERMINATION_LOG),
            out_uri=environment.get(OUT_URI_ENV, ""),
            job_uid=environment.get(JOB_UID_ENV, "local"),
            index=int(environment.get(INDEX_ENV, "0")),
        )

    @property
    def own_artifact(self) -> str:
        """The name of an artifact that every Job makes again: another processor may give other bits."""
        return f"{ARTIFACT}-{self.job_uid}"

    def read(self, ref: ArtifactRef, state: State | None = None) -> Artifact:
        """Return the artifact that the reference names, verified byte by byte in its place.

        Raises InputMissing with its digest, ArtifactError if it differs or has another state, and StoreError.
        """
        return _checked_state(ref, _get(ref, lambda path: self.store.read(path, ref.digest)), state)

    def copy(self, ref: ArtifactRef, state: State, *, held_out: bool = False) -> Artifact:
        """Return a verified copy of this pod's own: deciding tasks use no file that another pod may change meanwhile.

        Raises as `read` does.
        """
        store = self.held_out if held_out else self.store
        target = self.scratch / "inputs" / ref.digest.removeprefix("sha256:")
        return self.copy_to(target, ref, state, store)

    def copy_to(self, target: Path, ref: ArtifactRef, state: State, store: Store | None = None) -> Artifact:
        """Return the same in the target folder, or in another one if the store makes private copies anyway."""
        copied = _get(ref, lambda path: (store or self.store).copy(path, ref.digest, target))
        return _checked_state(ref, copied, state)

    def succeeded(
        self,
        artifact: Artifact | None = None,
        metrics: Mapping[str, float] | None = None,
        counts: PairedCounts | None = None,
    ) -> Report:
        """Return the report of a task that succeeded. artifact: one that `self.results` has written or found."""
        ref = None
        if artifact is not None:
            ref = ArtifactRef(
                uri=f"{self.out_uri}/{artifact.path.name}",
                digest=artifact.digest,
                state=artifact.state,
                size_bytes=artifact.size_bytes,
            )
        return Report(
            outcome="succeeded",
            at=datetime.now(UTC),
            artifact=ref,
            metrics=dict(metrics) if metrics else None,
            counts=counts,
        )


def _get(ref: ArtifactRef, get: Callable[[str], Artifact]) -> Artifact:
    """Return the artifact at the reference. get: takes the path below the store's root."""
    try:
        path = store_path(ref.uri)
    except ValueError as error:
        raise ArtifactError(str(error)) from error
    try:
        return get(path)
    except InputMissing as error:
        error.digest = ref.digest
        raise


def _checked_state(ref: ArtifactRef, artifact: Artifact, state: State | None) -> Artifact:
    if state is not None and artifact.state is not state:
        raise ArtifactError(f"{ref.uri} is of state {artifact.state}, and {state} is needed")
    return artifact


def _store(environment: Mapping[str, str], root: Path, out: Path, scratch: Path) -> Store:
    """Return the bucket that SLIPWAY_STORE names, or the mounted folder."""
    if not (text := environment.get(STORE_ENV)):
        return FolderStore(root, out)
    return _bucket_store(S3Store.model_validate_json(text), S3_SECRET_ENV, environment, (root, out, scratch))


def _held_out(environment: Mapping[str, str], root: Path, out: Path, scratch: Path) -> Store | None:
    """Return the store that SLIPWAY_HELD_OUT_STORE names; None without one."""
    if not (text := environment.get(HELD_OUT_STORE_ENV)):
        return None
    s3 = ArtifactStoreSpec.model_validate_json(text).s3
    if s3 is None:
        return FolderStore(root, out)
    return _bucket_store(s3, HELD_OUT_SECRET_ENV, environment, (root, out, scratch))


def _bucket_store(
    s3: S3Store, names: Mapping[str, str], environment: Mapping[str, str], folders: tuple[Path, Path, Path]
) -> Store:
    from slipway.runtime.bucket import Bucket
    from slipway.runtime.store import BucketStore

    root, out, scratch = folders
    own = environment.get(OUT_URI_ENV, "").removeprefix(URI_PREFIX)
    return BucketStore(Bucket.from_environment(s3, environment, scratch, names), root, out, own)


def read_task(environment: Mapping[str, str]) -> Task:
    """Return the task of the pod. Raises ValueError if it is missing, invalid, or in a file with another digest."""
    if not (text := environment.get(TASK_ENV)):
        raise ValueError(f"{TASK_ENV} is not set; the operator sets it to a task as JSON")
    if is_task_digest(text):
        text = _read_file(Path(environment.get(FOLDER_ENV[TASK_DIR], TASK_DIR)) / TASK_FILE, text)
    try:
        return parse_task(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ValueError(
            f"{TASK_ENV} is not a task that this image knows ({wrong}); use the same version of operator and image"
        ) from error


def _read_file(path: Path, digest: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{TASK_ENV} has the digest of a task that cannot be read: {error}") from error
    if task_digest(content) != digest:
        problem = f"has another digest than the one in {TASK_ENV}"
        raise ValueError(f"the task in {path} {problem}; do not edit the annotations of the pod")
    return content.decode()


_STORE_ERRORS = frozenset({StoreError.__name__, StoreAway.__name__})


def publish(report: Report, pod: Pod) -> None:
    """Write the report to the termination message and to the task's folder in the store; log a failure and go on.

    A store that has just refused or not answered gets no other request: some services create a missing bucket on write.
    """
    data = encode_report(report)
    try:
        pod.termination_log.write_bytes(data)
    except OSError as error:
        print(f"the termination message could not be written: {error}", flush=True)
    if not pod.out_uri or (report.error is not None and report.error.exception in _STORE_ERRORS):
        return
    try:
        pod.results.write_report(f"{pod.job_uid}-{pod.index}", data)
    except (OSError, StoreError) as error:
        print(f"the report could not be written to the store: {error}", flush=True)
