"""What a task knows of the pod it runs in: its store and folders, its Job, and how to report success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from slipway.api.artifacts import URI_PREFIX, ArtifactRef, State, store_path
from slipway.api.artifactstore import ArtifactStoreSpec, S3Store
from slipway.api.errors import ArtifactError, InputMissing
from slipway.api.reports import PairedCounts, Report
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
    TERMINATION_LOG,
)
from slipway.runtime.store import FolderStore, Store
from slipway.sdk.artifact import Artifact

ARTIFACT = "artifact"
"""The name of what a task makes, below its own folder."""


@dataclass(frozen=True, slots=True)
class Pod:
    """Every folder can be moved by its variable (FOLDER_ENV): a process is then as good as a pod."""

    store: Store
    """Where artifacts lie."""
    held_out: Store
    """Where evaluation data lies: the same store unless another one is kept for it."""
    results: Store
    """That of the two in which the task's own folder is."""
    out: Path
    """The task's own folder; of a claim, or of this pod until it is uploaded."""
    output: Path
    """Where a user's script writes."""
    scratch: Path
    repository: Path
    """Where Triton looks for models."""
    termination_log: Path
    out_uri: str
    """`out` as the store knows it."""
    job_uid: str
    index: int
    """Completion index of the pod in its Job."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Raises KeyError for a missing SLIPWAY_OUT_URI and ValueError for an index that is no number."""

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
        """The name of what is made anew by every Job: another processor may give other bits."""
        return f"{ARTIFACT}-{self.job_uid}"

    def read(self, ref: ArtifactRef, state: State | None = None) -> Artifact:
        """The artifact that the reference names, verified byte by byte where it lies.

        Raises InputMissing with its digest, ArtifactError where it differs or is not of the state asked for, and
        StoreError.
        """
        return _of_state(ref, _found(ref, lambda path: self.store.read(path, ref.digest)), state)

    def copy(self, ref: ArtifactRef, state: State, *, held_out: bool = False) -> Artifact:
        """A verified copy that is this pod's own: what decides uses nothing that another pod may change meanwhile.

        Raises as `read` does.
        """
        store = self.held_out if held_out else self.store
        target = self.scratch / "inputs" / ref.digest.removeprefix("sha256:")
        return self.copy_to(target, ref, state, store)

    def copy_to(self, target: Path, ref: ArtifactRef, state: State, store: Store | None = None) -> Artifact:
        """The same in a folder of the caller's choice; in another one where the store gives private copies anyway."""
        copied = _found(ref, lambda path: (store or self.store).copy(path, ref.digest, target))
        return _of_state(ref, copied, state)

    def succeeded(
        self,
        artifact: Artifact | None = None,
        metrics: Mapping[str, float] | None = None,
        counts: PairedCounts | None = None,
    ) -> Report:
        """The report of work that is done. artifact: one that `self.results` has written or found."""
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


def _found(ref: ArtifactRef, get: Callable[[str], Artifact]) -> Artifact:
    """What lies at the reference. get: by the path below the store's root."""
    try:
        path = store_path(ref.uri)
    except ValueError as error:
        raise ArtifactError(str(error)) from error
    try:
        return get(path)
    except InputMissing as error:
        error.digest = ref.digest
        raise


def _of_state(ref: ArtifactRef, artifact: Artifact, state: State | None) -> Artifact:
    if state is not None and artifact.state is not state:
        raise ArtifactError(f"{ref.uri} is of state {artifact.state}, and {state} is needed")
    return artifact


def _store(environment: Mapping[str, str], root: Path, out: Path, scratch: Path) -> Store:
    """The bucket that SLIPWAY_STORE names, else the folder that is mounted."""
    if not (text := environment.get(STORE_ENV)):
        return FolderStore(root, out)
    return _bucket_store(S3Store.model_validate_json(text), S3_SECRET_ENV, environment, (root, out, scratch))


def _held_out(environment: Mapping[str, str], root: Path, out: Path, scratch: Path) -> Store | None:
    """The store that SLIPWAY_HELD_OUT_STORE names; None without one."""
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
    from slipway.runtime.bucketstore import BucketStore

    root, out, scratch = folders
    own = environment.get(OUT_URI_ENV, "").removeprefix(URI_PREFIX)
    return BucketStore(Bucket.of(s3, environment, scratch, names), root, out, own)
