"""What a task knows of the pod it runs in: its store and folders, its Job, and how to report success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from slipway.api.artifacts import URI_PREFIX, ArtifactRef, State, store_path
from slipway.api.artifactstore import S3Store
from slipway.api.errors import ArtifactError, InputMissing
from slipway.api.reports import PairedCounts, Report
from slipway.api.tasks import (
    FOLDER_ENV,
    INDEX_ENV,
    JOB_UID_ENV,
    OUT_DIR,
    OUT_URI_ENV,
    OUTPUT_ENV,
    REPOSITORY_DIR,
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
    """Where artifacts and reports lie."""
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
        return cls(
            store=_store(environment, folder(STORE_DIR), out, folder(SCRATCH_DIR)),
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
        """The artifact that the reference names, verified byte by byte.

        Raises InputMissing with its digest, ArtifactError where it differs or is not of the state asked for, and
        StoreError.
        """
        try:
            path = store_path(ref.uri)
        except ValueError as error:
            raise ArtifactError(str(error)) from error
        try:
            artifact = self.store.read(path, ref.digest)
        except InputMissing as error:
            error.digest = ref.digest
            raise
        if state is not None and artifact.state is not state:
            raise ArtifactError(f"{ref.uri} is of state {artifact.state}, and {state} is needed")
        return artifact

    def succeeded(
        self,
        artifact: Artifact | None = None,
        metrics: Mapping[str, float] | None = None,
        counts: PairedCounts | None = None,
    ) -> Report:
        """The report of work that is done. artifact: one that `self.store` has written or found."""
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


def _store(environment: Mapping[str, str], root: Path, out: Path, scratch: Path) -> Store:
    """The bucket that SLIPWAY_STORE names, else the folder that is mounted."""
    if not (text := environment.get(STORE_ENV)):
        return FolderStore(root, out)
    from slipway.runtime.bucket import Bucket
    from slipway.runtime.bucketstore import BucketStore

    own = environment.get(OUT_URI_ENV, "").removeprefix(URI_PREFIX)
    return BucketStore(Bucket.of(S3Store.model_validate_json(text), environment, scratch), root, out, own)
