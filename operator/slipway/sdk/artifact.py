"""Artifacts: a folder whose every byte matches its digest when it is read, and which is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.sdk.manifest import MANIFEST, Content, FileEntry, Manifest, Provenance, digest_of, relative_path

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
COPY_BYTES = 1024 * 1024
"""Bytes of a copy that are in memory at once."""
_ANY = "0" * 64
"""Placeholder for the hash of the manifest, which is not known in advance."""
_new_hash = hashlib.sha256
_MODEL_SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified folder. Its files are never changed: a change makes it another artifact."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def state(self) -> State:
        """The format of the artifact."""
        return self.manifest.content.state

    @property
    def content(self) -> Content:
        """The part of the manifest that the digest covers."""
        return self.manifest.content

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights or the graph, without manifest, code and golden requests."""
        return sum(
            entry.size
            for name, entry in self.content.files.items()
            if PurePosixPath(name).suffix in _MODEL_SUFFIXES and PurePosixPath(name).parts[0] != "golden"
        )

    def file(self, name: str) -> Path:
        """Return the path of one of its files. Raises ArtifactError if it has no file of that name."""
        if name not in self.content.files:
            raise ArtifactError(f"{self.path} has no file {name!r}; it has {', '.join(sorted(self.content.files))}")
        return self.path / name


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_artifact(path: Path, digest: str | None = None, *, verify_bytes: bool = True) -> Artifact:
    """Read and verify the artifact in a folder: every file's bytes, no additional file, only plain files.

    verify_bytes: False skips hashing, for a folder that this pod has verified already.
    Raises ArtifactError with every difference, or with the digest that was found if it is another one.
    """
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(f"there is no artifact at {path}")
    manifest, found = read_manifest(path / MANIFEST)
    if digest is not None and found != digest:
        raise ArtifactError(f"{path} has {found}, not {digest}: another artifact was written there")
    if differences := _differences(path, manifest.content.files, verify_bytes):
        raise ArtifactError(f"{path} does not match its manifest: {'; '.join(differences)}")
    return Artifact(path=path, manifest=manifest, digest=found)


def copy_artifact(source: Path, target: Path, digest: str) -> Artifact:
    """Copy the artifact to a folder, and verify it at the same time; the source is read once.

    The source may change at any time, so the bytes that were written to the copy are verified. Files in the target that
    the manifest does not name stay, and others are overwritten. Raises ArtifactError as `read_artifact` does.
    """
    target.mkdir(parents=True, exist_ok=True)
    _copy_file(source, MANIFEST, target, FileEntry(sha256=_ANY, size=MAX_MANIFEST_BYTES))
    manifest, found = read_manifest(target / MANIFEST)
    if found != digest:
        raise ArtifactError(f"{source} has {found}, not {digest}: another artifact was written there")
    problems = [
        problem
        for name, entry in sorted(manifest.content.files.items())
        if (problem := _copy_file(source, name, target, entry))
    ]
    if problems:
        raise ArtifactError(f"{source} does not match its manifest: {'; '.join(problems)}")
    return Artifact(path=target, manifest=manifest, digest=found)


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """Return a manifest and the digest of its artifact. Raises ArtifactError if it is not a manifest."""
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path.parent} has no {MANIFEST}: it is not a complete artifact")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        raw = json.loads(path.read_bytes())
        manifest = Manifest.model_validate(raw)
        return manifest, digest_of(raw["content"])  # of the JSON itself, so that it covers unknown fields
    except (ValueError, ValidationError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a manifest: {error}") from error


def _copy_file(source: Path, name: str, target: Path, entry: FileEntry) -> str | None:
    """Copy one file by chunks; returns its difference from the entry, or None. A different file is removed."""
    try:
        # O_NONBLOCK: a named pipe must not block the pod.
        handle = os.open(source / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} is not a plain file ({error.strerror})"
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return f"{name} is not a plain file"
    path, sha, size = target / name, _new_hash(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(handle, "rb", buffering=0) as stream, path.open("wb") as copy:
        while size <= entry.size and (chunk := stream.read(COPY_BYTES)):
            sha.update(chunk)
            copy.write(chunk)
            size += len(chunk)
    problem = None
    if entry.sha256 == _ANY:
        return None
    if size != entry.size:
        found = size if size < entry.size else "more"
        problem = f"{name} has {found} bytes instead of {entry.size}"
    elif sha.hexdigest() != entry.sha256:
        problem = f"{name} differs from its sha256"
    if problem is not None:
        path.unlink()
    return problem


def _differences(root: Path, files: dict[str, FileEntry], verify_bytes: bool) -> list[str]:
    problems: list[str] = []
    seen: set[str] = set()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) or name == MANIFEST:
            continue
        seen.add(name)
        if not stat.S_ISREG(mode):
            problems.append(f"{name} is not a plain file")
        elif (entry := files.get(name)) is None:
            problems.append(f"{name} is not in the manifest")
        elif path.stat().st_size != entry.size:
            problems.append(f"{name} has {path.stat().st_size} bytes instead of {entry.size}")
        elif verify_bytes and sha256_of(path) != entry.sha256:
            problems.append(f"{name} differs from its sha256")
    problems.extend(f"{name} is missing" for name in sorted(files.keys() - seen))
    return problems


def write_artifact(
    destination: Path,
    content: Content,
    files: Mapping[str, Path | bytes],
    provenance: Provenance | None = None,
) -> Artifact:
    """Write files and manifest to a temporary folder beside it, flush them to disk and rename the folder.

    content: without `files`, which are hashed here. files: by path in the artifact; a Path is copied.
    A complete artifact of the same digest at the destination is used as it is, and an incomplete one is replaced.
    Raises ArtifactError for a complete artifact of another digest there, and for names that leave the folder.
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
        read_artifact(draft, digest)  # an artifact that cannot be read back is never published
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
            raise ArtifactError(f"{destination} already has {found}; {digest} was not written")
    try:
        draft.rename(destination)
    except OSError:
        read_artifact(destination, digest)  # another writer was faster, which is an error if its artifact differs
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
