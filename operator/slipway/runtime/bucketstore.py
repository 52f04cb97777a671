"""A bucket of S3 as a store: what is read is downloaded and verified, what is made is uploaded, the manifest last.

    <prefix>/<path>/<digest, as sha256-...>/<file>   the files of an artifact of that digest
    <prefix>/<path>/manifest.json                    marks it as whole: created on the condition that there is none

Files lie under their artifact's digest, so writers of different artifacts at one place never touch each other's files,
and writers of the same one write the same bytes. Nothing is ever deleted.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.api.errors import ArtifactError
from slipway.api.reports import MAX_REPORT_BYTES
from slipway.runtime.bucket import Bucket
from slipway.runtime.store import REPORTS_DIR, missing
from slipway.sdk.artifact import Artifact, read_artifact, read_manifest
from slipway.sdk.manifest import MANIFEST, Content, Provenance
from slipway.sdk.write import write_artifact

MAX_RACES = 5
"""How often a broken manifest is replaced that somebody else changes meanwhile."""


@dataclass(frozen=True, slots=True)
class BucketStore:
    """cache: where downloads are kept as long as the pod lives. out: where artifacts are made before they are uploaded.

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
            raise missing(self.bucket.url(path))
        return found

    def copy(self, path: str, digest: str, target: Path) -> Artifact:  # noqa: ARG002 - the port's
        """What is downloaded is this pod's own already: nothing lies in the target."""
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
        """Put the manifest where there is none, or a broken one. The artifact's files are all there."""
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
                raise ArtifactError(f"{where} already holds {found.digest}; {artifact.digest} was not written over it")
        raise ArtifactError(f"{self.bucket.url(key)} changes faster than it can be replaced")

    def _download(self, path: str, digest: str | None) -> Artifact | None:
        """A verified copy in the cache; None where there is no manifest, and so no artifact."""
        kept = self.cache / path
        draft = kept.with_name(f".{kept.name}.{secrets.token_hex(6)}")
        draft.mkdir(parents=True)
        try:
            if not self.bucket.download(f"{path}/{MANIFEST}", draft / MANIFEST):
                return None
            manifest, found = read_manifest(draft / MANIFEST)
            if digest is not None and found != digest:
                where = self.bucket.url(path)
                raise ArtifactError(f"{where} holds {found}, not {digest}: something else was written there")
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
        """Also from beside the manifest, where copying a folder into the bucket puts it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not any(self.bucket.download(key, target) for key in (_key(path, digest, file), f"{path}/{file}")):
            raise ArtifactError(f"{self.bucket.url(path)} is not what its manifest says: {file} is missing")


def _key(path: str, digest: str, file: str) -> str:
    return f"{path}/{digest.replace(':', '-')}/{file}"
