"""The port to the artifact store, and its two sides: a mounted folder, and a bucket of S3.

tests/contract/test_stores.py runs one suite on both. They raise ArtifactError for an artifact that is missing,
incomplete or altered; StoreError for a store that refuses or cannot be reached; OSError for the pod's own disk.

Layout of a bucket: inputs are downloaded and verified, results are uploaded, the manifest last.

    <prefix>/<path>/<digest, as sha256-...>/<file>   the files of an artifact of that digest
    <prefix>/<path>/manifest.json                    marks it as complete: created on the condition that there is none

Files have their artifact's digest in their path, so writers of different artifacts at one place never write to the same
files, and writers of the same artifact write the same bytes. Nothing is ever deleted.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from slipway.api.errors import ArtifactError, InputMissing
from slipway.api.reports import MAX_REPORT_BYTES
from slipway.runtime.bucket import Bucket
from slipway.sdk.artifact import Artifact, copy_artifact, read_artifact, read_manifest, write_artifact
from slipway.sdk.manifest import MANIFEST, Content, Provenance

REPORTS_DIR = "reports"


class Store(Protocol):
    """A namespace's store as one task sees it: it reads everywhere, and writes only below the task's own folder."""

    def read(self, path: str, digest: str) -> Artifact:
        """Return the artifact of that digest as a folder of this pod, verified byte by byte. path: below the store's
        root.

        Raises InputMissing if the store has no manifest there.
        """

    def copy(self, path: str, digest: str, target: Path) -> Artifact:
        """Return the same as a folder that no other pod can change: the target, or a folder of this pod."""

    def find(self, name: str) -> Artifact | None:
        """Return the artifact of that name in the task's own folder; None without one. An incomplete one raises."""

    def write(
        self, name: str, content: Content, files: Mapping[str, Path | bytes], provenance: Provenance | None = None
    ) -> Artifact:
        """Write an artifact to the task's own folder, whole or not at all; arguments and errors of `write_artifact`."""

    def write_report(self, name: str, data: bytes) -> None:
        """Write a report to the task's own folder; an earlier one of that name is replaced."""

    def reports(self, folder: str, job_uid: str) -> Mapping[str, bytes]:
        """Return the reports of a Job in a folder of the store, by name, such as `<Job UID>-0`; too large ones are left
        out.
        """


def input_missing(where: str) -> InputMissing:
    """Return the error for an input that is not in the store."""
    return InputMissing(f"there is no artifact at {where}: it was deleted, or the ArtifactStore is another one now")


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A store in a folder: a mounted claim. out: the task's own folder, which may be mounted elsewhere."""

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
            raise ArtifactError(f"{path} leaves the store by a link")
        if not (folder / MANIFEST).exists():
            raise input_missing(path)
        return folder


MAX_RACES = 5
"""Number of tries to replace an invalid manifest that another writer changes meanwhile."""


@dataclass(frozen=True, slots=True)
class BucketStore:
    """A store in a bucket. cache: folder of downloads. out: folder in which artifacts are made before they are
    uploaded.

    own: the task's own folder below the store's root; "" for a task that writes nothing.
    """

    bucket: Bucket
    cache: Path
    out: Path
    own: str

    def read(self, path: str, digest: str) -> Artifact:
        if (kept := self.cache / path).is_dir():
            try:
                return read_artifact(kept, digest)
            except ArtifactError:
                shutil.rmtree(kept)
        found = self._download(path, digest)
        if found is None:
            raise input_missing(self.bucket.url(path))
        return found

    def copy(self, path: str, digest: str, target: Path) -> Artifact:  # noqa: ARG002 - the port's
        """Return the download, which is this pod's own; the target stays empty."""
        return self.read(path, digest)

    def find(self, name: str) -> Artifact | None:
        return self._download(f"{self.own}/{name}", None)

    def write(
        self, name: str, content: Content, files: Mapping[str, Path | bytes], provenance: Provenance | None = None
    ) -> Artifact:
        artifact = write_artifact(self.out / name, content, files, provenance)
        path = f"{self.own}/{name}"
        for file in artifact.content.files:
            self.bucket.upload(artifact.path / file, _key(path, artifact.digest, file))
        self._publish(artifact, path)
        return artifact

    def write_report(self, name: str, data: bytes) -> None:
        self.bucket.write(f"{self.own}/{REPORTS_DIR}/{name}.json", data)

    def reports(self, folder: str, job_uid: str) -> Mapping[str, bytes]:
        found = {}
        for key, size in self.bucket.list(f"{folder}/{REPORTS_DIR}", f"{job_uid}-"):
            if size <= MAX_REPORT_BYTES and (read := self.bucket.read(key)) is not None:
                found[Path(key).stem] = read.data
        return found

    def _publish(self, artifact: Artifact, path: str) -> None:
        """Write the manifest if there is none, or an invalid one. The artifact's files are uploaded."""
        manifest, key = (artifact.path / MANIFEST).read_bytes(), f"{path}/{MANIFEST}"
        for _ in range(MAX_RACES):
            if self.bucket.create(key, manifest):
                return
            present = self.bucket.read(key)
            try:
                found = self._download(path, None)
            except ArtifactError:
                if present is not None and self.bucket.replace(key, manifest, present.version):
                    return
                continue
            if found is not None and found.digest == artifact.digest:
                return
            if found is not None:
                where = self.bucket.url(path)
                raise ArtifactError(f"{where} already has {found.digest}; {artifact.digest} was not written")
        raise ArtifactError(f"{self.bucket.url(key)} changes faster than it can be replaced")

    def _download(self, path: str, digest: str | None) -> Artifact | None:
        """Return a verified copy in the cache; None without a manifest, and so without an artifact."""
        kept = self.cache / path
        draft = kept.with_name(f".{kept.name}.{secrets.token_hex(6)}")
        draft.mkdir(parents=True)
        try:
            if not self.bucket.download(f"{path}/{MANIFEST}", draft / MANIFEST):
                return None
            manifest, found = read_manifest(draft / MANIFEST)
            if digest is not None and found != digest:
                where = self.bucket.url(path)
                raise ArtifactError(f"{where} has {found}, not {digest}: another artifact was written there")
            for file in manifest.content.files:
                self._fetch(path, found, file, draft / file)
            artifact = read_artifact(draft, found)
            if kept.is_dir():
                shutil.rmtree(kept)
            draft.rename(kept)
            return replace(artifact, path=kept)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fetch(self, path: str, digest: str, file: str, target: Path) -> None:
        """Download a file, also from beside the manifest, for folders that a user copied into the bucket."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not any(self.bucket.download(key, target) for key in (_key(path, digest, file), f"{path}/{file}")):
            raise ArtifactError(f"{self.bucket.url(path)} does not match its manifest: {file} is missing")


def _key(path: str, digest: str, file: str) -> str:
    return f"{path}/{digest.replace(':', '-')}/{file}"
