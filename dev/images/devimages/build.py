"""Builds images, each once for the content that decides it, and writes them as archives below build/images."""

import argparse
import gzip
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import needs, paths
from devcluster.binaries import locked
from devimages import base
from devimages.buildah import Buildah
from devimages.recipes import BASES, RECIPES, Recipe, digest

PACKAGES = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
OUTPUT = paths.REPOSITORY / "build" / "images"


def storage() -> Buildah:
    """Where images and their layers are kept."""
    return Buildah(paths.cache_dir() / "images")


def build(recipe: Recipe) -> str:
    """The image's name, built first where there is none of this content, as are those below it (minutes at first)."""
    needs.root("buildah writes files of several users")
    needs.programs(PACKAGES, PACKAGES)
    if storage().content(recipe.name) == digest(recipe):
        return recipe.name  # also while another image is being built
    with locked(storage().root / "lock"):
        return _built(recipe)


def _built(recipe: Recipe) -> str:
    images, content = storage(), digest(recipe)
    if images.content(recipe.name) == content:
        return recipe.name
    arguments = {argument: _base(image) for argument, image in recipe.bases.items()}
    started = time.monotonic()
    print(f"building {recipe.name}", file=sys.stderr, flush=True)
    images.build(recipe.context, arguments, recipe.name, target=recipe.target, content=content)
    print(f"built {recipe.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return recipe.name


def _base(image: str) -> str:
    if image not in BASES:
        return _built(RECIPES[image])
    packages = BASES[image]
    name = f"localhost/slipway-base:{base.digest(packages)}"
    images = storage()
    if not images.has(name):
        started = time.monotonic()
        images.import_files(base.root_filesystem(images.root, packages), name)
        print(f"made {name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return name


def archive(target: str) -> Path:
    """The target's archive below build/images, in the format of `docker save`."""
    recipe = RECIPES[target]
    made = OUTPUT / f"{target}-{digest(recipe)}.tar"
    if made.exists():
        return made
    name = build(recipe)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    unfinished = made.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    storage().export(name, unfinished)
    for old in OUTPUT.glob(f"{target}-*.tar"):
        old.unlink()
    os.replace(unfinished, made)
    return made


def compressed_bytes(made: Path) -> int:
    """What a registry would send: gzip at its usual level."""
    counted = _Counter()
    with made.open("rb") as source, gzip.GzipFile(fileobj=counted, mode="wb", compresslevel=6) as target:
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


def known(targets: Sequence[str], parser: argparse.ArgumentParser) -> Sequence[str]:
    """These targets, operator where there are none. Ends the program on one that there is no recipe for."""
    if unknown := [target for target in targets if target not in RECIPES]:
        parser.error(f"{unknown[0]}: not built here; one of {', '.join(RECIPES)} is")
    return targets or ["operator"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build images, and print each one's archive, name and size."""
    parser = argparse.ArgumentParser(prog="build", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(RECIPES)}; operator alone if none")
    parser.add_argument("--no-archive", action="store_true", help="leave them in the cache, for dev/images/load")
    options = parser.parse_args(arguments)
    for target in known(options.targets, parser):
        if options.no_archive:
            build(RECIPES[target])
            continue
        made = archive(target)
        whole, compressed = made.stat().st_size / 1e6, compressed_bytes(made) / 1e6
        shown = made.relative_to(paths.REPOSITORY)
        print(f"{shown}: {RECIPES[target].name}, {whole:.0f} MB, {compressed:.0f} MB compressed")
    return 0
