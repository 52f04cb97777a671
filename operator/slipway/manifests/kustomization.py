"""Kustomizations, built by `kubectl kustomize` after a check that they read nothing outside of their folders.

kubectl refuses files outside of a kustomization's own folder, and runs no plugins. But it fetches URLs (ports of this
machine among them), and reads pipes and files of any size: so every path is checked before, and kubectl runs without
git, without a working proxy, and with limits.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slipway.manifests.documents import documents
from slipway.manifests.files import MAX_BYTES, Place, Problem, UnreadableError, read_bytes, read_text
from slipway.manifests.nodes import Document, Spot, Step

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
SECONDS = 30
MEMORY_BYTES = 2 << 30
MAX_VISITS = 200
"""Limit of kustomizations; one that is named several times counts each time."""
ORIGIN = "config.kubernetes.io/origin"
_SAFE_FIELDS = frozenset(
    {
        *("apiVersion", "kind", "metadata", "namespace", "namePrefix", "nameSuffix", "commonLabels", "labels"),
        *("commonAnnotations", "images", "replicas", "generatorOptions", "buildMetadata", "sortOptions", "vars"),
    }
)
_PATHS: Mapping[str, tuple[str, ...]] = {
    "resources": ("",),
    "components": ("",),
    "bases": ("",),
    "crds": ("",),
    "configurations": ("",),
    "openapi": ("path",),
    "patches": ("path",),
    "patchesStrategicMerge": ("",),
    "patchesJson6902": ("path",),
    "replacements": ("path",),
    "configMapGenerator": ("files", "envs", "env"),
    "secretGenerator": ("files", "envs", "env"),
}
"""Fields whose items name files: the item itself (""), or these fields of it."""
_FOLDERS = frozenset({"resources", "components", "bases"})
_REMOTE = re.compile(r"://|^git::|^gh:|^[^/]*@|^(www\.)?github\.com\b|[?]ref=", re.IGNORECASE)


class Built(NamedTuple):
    """The output of kubectl. text: the objects. folder: base of the paths in it."""

    text: str
    folder: Path


class NamedPath(NamedTuple):
    """A path in a kustomization. steps: to its field."""

    steps: tuple[Step, ...]
    path: str | None
    """None if the value is not a text."""


Placed = tuple[tuple[str, Document], ...]
"""Documents with the files that they come from."""


def kustomization_in(folder: Path) -> Path | None:
    return next((path for name in NAMES if (path := folder / name).is_file()), None)


def read_kustomization(path: Path) -> tuple[Placed, list[Problem]]:
    """Return the built objects, or the problems of the files; nothing is built if there are any."""
    inspection = _Inspection()
    inspection.inspect(path, ())
    if inspection.problems:
        return (), inspection.problems
    built = _built(path)
    if isinstance(built, Problem):
        return (), [built]
    read, faults = documents(built.text)
    return tuple(_placed(read, built.folder, path)), [Problem(Place(str(path)), fault.what) for fault in faults]


class _Inspection:
    """Checks a kustomization and all files that it names, before anything is built."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._visits = 0

    def inspect(self, path: Path, above: tuple[str, ...]) -> None:
        """Check one kustomization. above: the kustomizations that led to it, outermost first."""
        real = os.path.realpath(path)
        self._visits += 1
        if real in above:
            circle = " -> ".join((*above[above.index(real) :], real))
            self._report(Place(str(path)), f"kustomizations include each other: {circle}; remove one")
        elif self._visits > MAX_VISITS:
            if self._visits == MAX_VISITS + 1:
                what = f"more than {MAX_VISITS} kustomizations; name single files"
                self._report(Place(str(path)), what)
        elif (body := self._read(path)) is not None:
            self._fields(path, body, (*above, real))

    def _read(self, path: Path) -> Document | None:
        text = read_text(path)
        if isinstance(text, Problem):
            self.problems.append(text)
            return None
        read, faults = documents(text)
        for fault in faults:
            self._report(Place(str(path), fault.line, fault.column), fault.what)
        if faults:
            return None
        if len(read) != 1 or not isinstance(read[0].value, dict):
            self._report(Place(str(path)), "a kustomization must be one mapping, with resources")
            return None
        return read[0]

    def _fields(self, path: Path, body: Document, above: tuple[str, ...]) -> None:
        for name, value in body.value.items():
            if name in _PATHS:
                for named in _named(name, value):
                    spot = body.spot.at(named.steps)
                    place = Place(str(path), spot.line, spot.column)
                    if named.path is None:
                        self._report(place, f"{name}: each item must be the path of a file or folder")
                    else:
                        self._path(path.parent, name, named.path, place, above)
            elif name not in _SAFE_FIELDS:
                spot = body.spot.at([name])
                what = f"{name}: may run programs or fetch charts; run `{_command(path)} | slipway ... -f -`"
                self._report(Place(str(path), spot.line, spot.column), what)

    def _path(self, folder: Path, field: str, name: str, place: Place, above: tuple[str, ...]) -> None:
        target, what = folder / name, f"{field}: {name}"
        if _REMOTE.search(name):
            build = f"run `kubectl kustomize {folder} | slipway ... -f -`"
            self._report(place, f"{what} is remote, and nothing is fetched; {build}")
        elif field in _FOLDERS and target.is_dir():
            inner = kustomization_in(target)
            if inner is None:
                self._report(place, f"{what} is a folder without a kustomization; name its files")
            else:
                self.inspect(inner, above)
        elif not os.path.lexists(target):
            self._report(place, f"{what} does not exist; correct the path", absent=True)
        elif not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
            self._report(place, f"{what} is outside of {folder}; copy it there, or use a folder with a kustomization")
        else:
            try:
                read_bytes(target, MAX_BYTES, pipes=False)
            except UnreadableError as error:
                self._report(place, f"{what}: {error.what}", absent=error.absent)

    def _report(self, place: Place, what: str, *, absent: bool = False) -> None:
        self.problems.append(Problem(place, what, absent))


def _named(name: str, value: Any) -> Iterator[NamedPath]:
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    for index, item in enumerate(items):
        steps: tuple[Step, ...] = (name, index) if isinstance(value, list) else (name,)
        for inner in _PATHS[name]:
            found = item if not inner else item.get(inner) if isinstance(item, dict) else None
            for path in found if isinstance(found, list) else [found]:
                if not isinstance(path, str):
                    if path is not None:
                        yield NamedPath(steps, None)
                    continue
                if name == "patchesStrategicMerge" and ("\n" in path or ": " in path):
                    continue  # an inline patch
                key, equals, file = path.partition("=") if inner == "files" else ("", "", path)
                yield NamedPath((*steps, inner) if inner else steps, file if equals else key or file)


def _built(path: Path) -> Built | Problem:
    """Build it with kubectl, which annotates each object with its origin."""
    place = Place(str(path))
    kubectl = _kubectl()
    if kubectl is None:
        return Problem(place, f"kustomizations need kubectl; install it, or use the output of `{_command(path)}`")
    with (
        tempfile.TemporaryDirectory(prefix="slipway-") as temporary,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        wrapper = Path(os.path.realpath(temporary))
        folder = os.path.relpath(os.path.realpath(path.parent), wrapper).replace("'", "''")
        (wrapper / "kustomization.yaml").write_text(f"buildMetadata: [originAnnotations]\nresources: ['{folder}']\n")
        environment = {"HOME": temporary, "PATH": "", "KUBECONFIG": os.devnull, "KUBERC": "off"}
        environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        try:
            done = subprocess.run(  # noqa: S603 - a program of the user's own
                [kubectl, "kustomize", wrapper],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=environment,
                timeout=SECONDS,
                preexec_fn=_limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Problem(place, f"kubectl kustomize did not end within {SECONDS} s; name single files")
        except OSError as error:
            return Problem(place, f"{kubectl} cannot be run: {error.strerror}")
        errors.seek(0)
        stderr = errors.read(4096).decode(errors="replace").replace(str(wrapper), str(path.parent))
        if done.returncode or output.tell() >= MAX_BYTES:
            why = (
                stderr.removeprefix("error: ")
                or f"it failed without a message, or its output exceeds {MAX_BYTES / 1e6:g} MB"
            )
            return Problem(place, f"kubectl kustomize: {why}")
        output.seek(0)
        return Built(output.read().decode(errors="replace"), wrapper)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, MAX_BYTES))


def _kubectl() -> str | None:
    """Return the kubectl of this Python environment, or the one in PATH."""
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else shutil.which("kubectl")


def _command(path: Path) -> str:
    return f"kubectl kustomize {path.parent}"


def _placed(read: Sequence[Document], folder: Path, path: Path) -> Iterator[tuple[str, Document]]:
    """Yield each object with the file that defines it, or with the kustomization."""
    known: dict[Path, list[Document]] = {}
    for value, _ in read:
        origin = _origin(value)
        if origin is None:
            yield str(path), Document(value, Spot(0, 0))
            continue
        file = Path(os.path.normpath(folder / origin))
        file = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        if file not in known:
            text = read_text(file)
            known[file] = [] if isinstance(text, Problem) else documents(text)[0]
        yield str(file), Document(value, _spot(value, known[file]))


def _origin(value: Any) -> str | None:
    """Return the file that the object was read from, and remove the annotation."""
    meta = value.get("metadata") if isinstance(value, dict) else None
    annotations = meta.get("annotations") if isinstance(meta, dict) else None
    if not isinstance(annotations, dict) or not isinstance(text := annotations.pop(ORIGIN, None), str):
        return None
    if not annotations:
        value["metadata"].pop("annotations")
    (origin, *_), _ = documents(text)
    path = origin.value.get("path") or origin.value.get("configuredIn")
    return str(path) if path else None


def _spot(value: Any, written: Sequence[Document]) -> Spot:
    """Return the spot of the object by kind and name; kustomize may have changed its name and fields."""
    kind, name = value.get("kind"), str(value.get("metadata", {}).get("name"))
    same = [one for one in written if isinstance(one.value, dict) and one.value.get("kind") == kind]
    for spot, other in ((one.spot, str((one.value.get("metadata") or {}).get("name"))) for one in same):
        if other in name:
            return spot
    return Spot(0, 0)
