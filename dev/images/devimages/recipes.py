"""Which images there are, what each is made of, and a digest that changes with that."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.paths import REPOSITORY
from devimages import base

# Bases of Debian's packages, by the names by which recipes ask for them.
BASES = {"python": base.PYTHON, "native": base.NATIVE}


@dataclass(frozen=True)
class Recipe:
    """One image. bases: each build argument that names an image, and the recipe or base that it is.

    sources: what decides the image besides, below the context; None is what its .dockerignore lets in.
    """

    name: str
    context: Path
    bases: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    sources: tuple[str, ...] | None = None


RECIPES = {
    "operator": Recipe("localhost/slipway-operator:dev", REPOSITORY, {"PYTHON_IMAGE": "python"}, "operator"),
    "runtime": Recipe("localhost/slipway-runtime:dev", REPOSITORY, {"PYTHON_IMAGE": "native"}, "runtime"),
    "serving": Recipe(
        "localhost/slipway-serving:dev", REPOSITORY, {"TRITON_IMAGE": "triton"}, "serving", ("Dockerfile",)
    ),
    "triton": Recipe(
        "localhost/triton:dev",
        REPOSITORY / "dev" / "images" / "triton",
        {"DEBIAN_IMAGE": "native"},
        sources=("Dockerfile",),
    ),
    "plugin": Recipe(
        "localhost/svd-linear:1.0.0",
        REPOSITORY / "examples" / "plugin",
        {"RUNTIME_IMAGE": "runtime"},
        sources=("Dockerfile", "pyproject.toml", "svd_linear.py"),
    ),
}


def digest(recipe: Recipe) -> str:
    """Changes with whatever is in the image, but for new releases of Debian's packages and of unpinned tools."""
    content = hashlib.sha256(f"{recipe.name}\0{recipe.target}\0".encode())
    for argument, image in recipe.bases.items():
        below = base.digest(BASES[image]) if image in BASES else digest(RECIPES[image])
        content.update(f"{argument}={below}\0".encode())
    for file in _files(recipe):
        content.update(str(file.relative_to(recipe.context)).encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:12]


def _files(recipe: Recipe) -> list[Path]:
    ignore = recipe.context / ".dockerignore"
    named = recipe.sources
    if named is None:
        let_in = [line.removeprefix("!") for line in ignore.read_text().splitlines() if line.startswith("!")]
        named = ("Dockerfile", ".dockerignore", *let_in)
    found: list[Path] = []
    for path in (recipe.context / name for name in named):
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sorted(file for file in found if "__pycache__" not in file.parts)
