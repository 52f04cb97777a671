"""Reading an artifact: a folder whose every byte is what its digest says, or an error that says what differs."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.sdk.manifest import MANIFEST, Content, FileEntry, Manifest, digest_of

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
COPY_BYTES = 1024 * 1024
"""What a copy has in memory."""
_ANY = "0" * 64
"""Stands for the hash of a file whose own is not known: the manifest's."""
_new_hash = hashlib.sha256
_MODEL_SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified folder. Its files are read-only for everybody: a change makes it another artifact."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def state(self) -> State:
        """What the artifact is made of."""
        return self.manifest.content.state

    @property
    def content(self) -> Content:
        """The part of the manifest that the digest covers."""
        return self.manifest.content

    @property
    def size_bytes(self) -> int:
        """Bytes of weights or graph; without manifest, code and golden requests."""
        return sum(
            entry.size
            for name, entry in self.content.files.items()
            if PurePosixPath(name).suffix in _MODEL_SUFFIXES and PurePosixPath(name).parts[0] != "golden"
        )

    def file(self, name: str) -> Path:
        """The path of one of its files. Raises ArtifactError where it has none of that name."""
        if name not in self.content.files:
            raise ArtifactError(f"{self.path} has no file {name!r}; it has {', '.join(sorted(self.content.files))}")
        return self.path / name


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_artifact(path: Path, digest: str | None = None, *, verify_bytes: bool = True) -> Artifact:
    """Read and verify the artifact in a folder: every file's bytes, no file too many, nothing but plain files.

    verify_bytes: False leaves hashing out, for a folder that this pod has verified already.
    Raises ArtifactError naming every difference, or the digest found where it is not the one asked for.
    """
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(f"there is no artifact at {path}")
    manifest, found = read_manifest(path / MANIFEST)
    if digest is not None and found != digest:
        raise ArtifactError(f"{path} holds {found}, not {digest}: something else was written there")
    if differences := _differences(path, manifest.content.files, verify_bytes):
        raise ArtifactError(f"{path} is not what its manifest says: {'; '.join(differences)}")
    return Artifact(path=path, manifest=manifest, digest=found)


def copy_artifact(source: Path, target: Path, digest: str) -> Artifact:
    """A copy of the artifact in a folder, verified as it is made; the source is read once.

    The source may change at any moment: what counts is the bytes that were written to the copy. Files that the manifest
    does not name are left. Raises ArtifactError as `read_artifact` does; target: what lies there is written over.
    """
    target.mkdir(parents=True, exist_ok=True)
    _copy_file(source, MANIFEST, target, FileEntry(sha256=_ANY, size=MAX_MANIFEST_BYTES))
    manifest, found = read_manifest(target / MANIFEST)
    if found != digest:
        raise ArtifactError(f"{source} holds {found}, not {digest}: something else was written there")
    problems = [
        problem
        for name, entry in sorted(manifest.content.files.items())
        if (problem := _copy_file(source, name, target, entry))
    ]
    if problems:
        raise ArtifactError(f"{source} is not what its manifest says: {'; '.join(problems)}")
    return Artifact(path=target, manifest=manifest, digest=found)


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """A manifest and the digest of the artifact that it speaks of. Raises ArtifactError where it is none."""
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path.parent} has no {MANIFEST}: it is not a whole artifact")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        raw = json.loads(path.read_bytes())
        manifest = Manifest.model_validate(raw)
        return manifest, digest_of(raw["content"])  # of what lies there, so that unknown fields count too
    except (ValueError, ValidationError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a manifest: {error}") from error


def _copy_file(source: Path, name: str, target: Path, entry: FileEntry) -> str | None:
    """Copy one file by chunks; returns what differs from its entry, None if nothing does. What differs is removed."""
    try:
        # O_NONBLOCK: a named pipe must not hold the pod up.
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
        problem = f"{name} has other bytes than its sha256 says"
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
            problems.append(f"{name} has other bytes than its sha256 says")
    problems.extend(f"{name} is missing" for name in sorted(files.keys() - seen))
    return problems
