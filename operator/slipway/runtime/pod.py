"""What a task knows of the pod it runs in: its folders, its Job, and how to report success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from slipway.api.artifacts import ArtifactRef, State, store_path
from slipway.api.errors import ArtifactError
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
    TERMINATION_LOG,
)
from slipway.sdk.artifact import Artifact, read_artifact


@dataclass(frozen=True, slots=True)
class Pod:
    """Every folder can be moved by its variable (FOLDER_ENV): a process is then as good as a pod."""

    store: Path
    """The whole store; read-only in a pod."""
    out: Path
    """The task's own folder of the store."""
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
            store=folder(STORE_DIR),
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
    def artifact(self) -> Path:
        """Where the task's artifact belongs: the destination of write_artifact."""
        return self.out / "artifact"

    @property
    def own_artifact(self) -> Path:
        """The same for a task that is done anew by every Job: another processor may give other bits."""
        return self.out / f"artifact-{self.job_uid}"

    def read(self, ref: ArtifactRef, state: State | None = None) -> Artifact:
        """The artifact that the reference names, verified byte by byte.

        Raises ArtifactError where it is missing, differs, or is not of the state asked for.
        """
        try:
            path = self.store / store_path(ref.uri)
        except ValueError as error:
            raise ArtifactError(str(error)) from error
        if not path.resolve().is_relative_to(self.store.resolve()):
            raise ArtifactError(f"{ref.uri} leads out of the store by a link")
        artifact = read_artifact(path, ref.digest)
        if state is not None and artifact.state is not state:
            raise ArtifactError(f"{ref.uri} is of state {artifact.state}, and {state} is needed")
        return artifact

    def succeeded(
        self,
        artifact: Artifact | None = None,
        metrics: Mapping[str, float] | None = None,
        counts: PairedCounts | None = None,
    ) -> Report:
        """The report of work that is done. artifact: one that lies in `self.out`."""
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
