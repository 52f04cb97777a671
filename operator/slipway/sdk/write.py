"""Writing an artifact: whole or not at all, whoever dies in between."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from slipway.api.errors import ArtifactError
from slipway.sdk.artifact import Artifact, read_artifact, sha256_of
from slipway.sdk.manifest import MANIFEST, Content, FileEntry, Manifest, Provenance, digest_of, relative_path


def write_artifact(
    destination: Path,
    content: Content,
    files: Mapping[str, Path | bytes],
    provenance: Provenance | None = None,
) -> Artifact:
    """Write files and manifest under a temporary sibling, flush them to disk and rename the folder.

    content: without `files`, which are hashed here. files: by path in the artifact; a Path is copied.
    A whole artifact of the same digest at the destination is used as it is, and a broken one is replaced.
    Raises ArtifactError for a whole artifact of another digest there, and for names that leave the folder.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    draft = _sibling(destination)
    draft.mkdir()
    try:
        entries = {name: _place(draft, name, source) for name, source in sorted(files.items())}
        manifest = Manifest(
            content=content.model_copy(update={"files": entries}), provenance=provenance or Provenance()
        )
        digest = digest_of(manifest.content.to_wire())
        _write(draft / MANIFEST, json.dumps(manifest.to_wire(), indent=1, sort_keys=True, allow_nan=False).encode())
        for folder in sorted({path.parent for path in draft.rglob("*")} | {draft}, reverse=True):
            _sync(folder)
        read_artifact(draft, digest)  # what cannot be read back is never published
        _publish(draft, destination, digest)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read_artifact(destination, digest)


def _publish(draft: Path, destination: Path, digest: str) -> None:
    if destination.exists() or destination.is_symlink():
        try:
            found = read_artifact(destination).digest
        except ArtifactError:
            _discard(destination)
        else:
            if found == digest:
                return
            raise ArtifactError(f"{destination} already holds {found}; {digest} was not written over it")
    try:
        draft.rename(destination)
    except OSError:
        read_artifact(destination, digest)  # somebody else was faster: fine where it is the same, an error where not
        return
    _sync(destination.parent)


def _discard(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    aside = _sibling(path)
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")


def _place(root: Path, name: str, source: Path | bytes) -> FileEntry:
    try:
        path = root / relative_path(name)
    except ValueError as error:
        raise ArtifactError(str(error)) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        _write(path, source)
    else:
        shutil.copyfile(source, path)
        _sync(path)
    return FileEntry(sha256=sha256_of(path), size=path.stat().st_size)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
