"""The port to the artifact store. Two sides: a folder that is mounted (here) and a bucket of S3 (bucketstore.py).

tests/contract/test_stores.py holds both to one suite. What crosses: ArtifactError for an artifact that is missing, cut
or altered; StoreError for a store that refuses or cannot be reached; OSError for the pod's own disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipway.api.errors import ArtifactError, InputMissing
from slipway.api.reports import MAX_REPORT_BYTES
from slipway.sdk.artifact import Artifact, copy_artifact, read_artifact
from slipway.sdk.manifest import MANIFEST, Content, Provenance
from slipway.sdk.write import write_artifact

REPORTS_DIR = "reports"


class Store(Protocol):
    """A namespace's store as one task sees it: it reads everywhere, and writes below the task's own folder alone."""

    def read(self, path: str, digest: str) -> Artifact:
        """The artifact of that digest as a folder of this pod, verified byte by byte. path: below the store's root.

        Raises InputMissing if the store has no manifest there.
        """

    def copy(self, path: str, digest: str, target: Path) -> Artifact:
        """The same as a folder that nobody else can change: the target, or one that is this pod's own already."""

    def find(self, name: str) -> Artifact | None:
        """What lies whole under a name of the task's own folder; None where nothing does. A broken one raises."""

    def write(
        self, name: str, content: Content, files: Mapping[str, Path | bytes], provenance: Provenance | None = None
    ) -> Artifact:
        """Leave an artifact in the task's own folder, whole or not at all; arguments and errors of `write_artifact`."""

    def write_report(self, name: str, data: bytes) -> None:
        """Leave a report in the task's own folder; an earlier one of that name is replaced."""

    def reports(self, folder: str, job_uid: str) -> Mapping[str, bytes]:
        """The reports of a Job in a folder of the store, by name, as `<Job UID>-0`; of others' size none."""


def missing(where: str) -> InputMissing:
    """The error of an input that is not in the store."""
    return InputMissing(f"there is no artifact at {where}: it was deleted, or the ArtifactStore is another one now")


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A folder: a mounted claim. out: the task's own folder of it, which may be mounted elsewhere."""

    root: Path
    out: Path

    def read(self, path: str, digest: str) -> Artifact:
        return read_artifact(self._folder(path), digest)

    def copy(self, path: str, digest: str, target: Path) -> Artifact:
        return copy_artifact(self._folder(path), target, digest)

    def find(self, name: str) -> Artifact | None:
        folder = self.out / name
        return read_artifact(folder) if folder.exists() else None

    def write(
        self, name: str, content: Content, files: Mapping[str, Path | bytes], provenance: Provenance | None = None
    ) -> Artifact:
        return write_artifact(self.out / name, content, files, provenance)

    def write_report(self, name: str, data: bytes) -> None:
        path = self.out / REPORTS_DIR / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(path)

    def reports(self, folder: str, job_uid: str) -> Mapping[str, bytes]:
        found = sorted((self.root / folder / REPORTS_DIR).glob(f"{job_uid}-*.json"))
        plain = [path for path in found if not path.is_symlink() and path.stat().st_size <= MAX_REPORT_BYTES]
        return {path.stem: path.read_bytes() for path in plain}

    def _folder(self, path: str) -> Path:
        folder = self.root / path
        if not folder.resolve().is_relative_to(self.root.resolve()):
            raise ArtifactError(f"{path} leads out of the store by a link")
        if not (folder / MANIFEST).exists():
            raise missing(path)
        return folder
