"""Builds targets of the Dockerfile as archives below build/images, each once for the content that decides it."""

import argparse
import gzip
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from devcluster import needs, paths
from devcluster.binaries import locked
from devimages import base
from devimages.buildah import Buildah

# serving's base is Triton's image, which no package holds: build it where there is a registry.
TARGETS = ("operator", "runtime")
PACKAGES = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
OUTPUT = paths.REPOSITORY / "build" / "images"


def name_of(target: str) -> str:
    """The image's name, which no registry serves."""
    return f"localhost/slipway-{target}:dev"


def digest(repository: Path, target: str) -> str:
    """Changes with whatever is in the image, but for new releases of Debian's packages and of uv."""
    content = hashlib.sha256(f"{base.digest()}\0{target}\0".encode())
    for file in _files(repository):
        content.update(str(file.relative_to(repository)).encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def build(target: str) -> Path:
    """The target's archive, built first where there is none of this content (minutes the first time)."""
    archive = OUTPUT / f"{target}-{digest(paths.REPOSITORY, target)}.tar"
    if archive.exists():
        return archive
    needs.root("buildah writes files of several users")
    needs.programs(PACKAGES, PACKAGES)
    cache = paths.cache_dir() / "images"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        images = Buildah(cache)
        python = f"localhost/slipway-base:{base.digest()}"
        if not images.has(python):
            images.import_files(base.root_filesystem(cache), python)
        print(f"building {name_of(target)}", file=sys.stderr, flush=True)
        images.build(paths.REPOSITORY, target, {"PYTHON_IMAGE": python}, name_of(target))
        unfinished = archive.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        images.export(name_of(target), unfinished)
    for old in OUTPUT.glob(f"{target}-*.tar"):
        old.unlink()
    os.replace(unfinished, archive)
    return archive


def compressed_bytes(archive: Path) -> int:
    """What a registry would send: gzip at its usual level."""
    counted = _Counter()
    with archive.open("rb") as source, gzip.GzipFile(fileobj=counted, mode="wb", compresslevel=6) as target:
        while block := source.read(1 << 20):
            target.write(block)
    return counted.bytes


class _Counter:
    """A file that keeps only how much was written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, block: bytes) -> int:
        self.bytes += len(block)
        return len(block)

    def flush(self) -> None:
        """Nothing is held back."""


def _files(repository: Path) -> list[Path]:
    """What decides an image: the Dockerfile, and what .dockerignore lets in (its lines with an exclamation mark)."""
    ignore = repository / ".dockerignore"
    let_in = [repository / line.removeprefix("!") for line in ignore.read_text().splitlines() if line.startswith("!")]
    found = [repository / "Dockerfile", ignore]
    for path in let_in:
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in found if "__pycache__" not in file.parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build targets of the Dockerfile, and print each image's archive, name and size."""
    parser = argparse.ArgumentParser(prog="build", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; operator alone if none")
    targets = parser.parse_args(arguments).targets or ["operator"]
    if unknown := [target for target in targets if target not in TARGETS]:
        parser.error(f"{unknown[0]}: not built here; one of {', '.join(TARGETS)} is")
    for target in targets:
        archive = build(target)
        whole, compressed = archive.stat().st_size / 1e6, compressed_bytes(archive) / 1e6
        shown = archive.relative_to(paths.REPOSITORY)
        print(f"{shown}: {name_of(target)}, {whole:.0f} MB, {compressed:.0f} MB compressed")
    return 0
