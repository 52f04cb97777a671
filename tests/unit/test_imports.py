"""No two modules, nor folders, of the operator import each other, and none imports from a layer above its own.

import-linter looks past imports under TYPE_CHECKING; here they count, as those inside functions do.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "operator"

Module = tuple[str, ...]
"""`("slipway", "api", "kinds")`; the last part of a package's own file is `__init__`."""


class Import(NamedTuple):
    importer: Module
    imported: Module
    line: int

    def __str__(self) -> str:
        return f"{'/'.join(self.importer)}.py:{self.line} imports {'.'.join(self.imported)}"


def imports(root: Path) -> list[Import]:
    """All imports of one module by another, wherever they stand."""
    modules = {path.relative_to(root).with_suffix("").parts: path for path in sorted(root.glob("slipway/**/*.py"))}
    found = []
    for importer, path in modules.items():
        for name, line in _names(ast.parse(path.read_text())):
            meant = (name, (*name, "__init__"), name[:-1], (*name[:-1], "__init__"))
            imported = next((one for one in meant if one in modules), importer)
            if imported != importer:
                found.append(Import(importer, imported, line))
    return found


def _names(tree: ast.Module) -> Iterator[tuple[Module, int]]:
    """What each import may name: a module, or something in one. Relative imports are banned by ruff."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((tuple(alias.name.split(".")), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (((*node.module.split("."), alias.name), node.lineno) for alias in node.names)


def circles(found: list[Import]) -> list[str]:
    """One for each folder whose files and folders import each other in a circle, with the imports that close it."""
    by_folder: dict[Module, dict[str, dict[str, Import]]] = defaultdict(lambda: defaultdict(dict))
    for one in found:
        depth = next(i for i, (a, b) in enumerate(zip(one.importer, one.imported, strict=False)) if a != b)
        by_folder[one.importer[:depth]][one.importer[depth]].setdefault(one.imported[depth], one)
    lines = []
    for folder, graph in by_folder.items():
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][::-1]
            lines.append(f"{'/'.join(folder)}: {'; '.join(str(graph[a][b]) for a, b in pairwise(circle))}")
    return lines


def climbs(found: list[Import], layers: list[set[str]]) -> list[str]:
    """The imports from a layer, highest first, to one above it, or to a neighbour in it."""
    level = {name: number for number, names in enumerate(layers) for name in names}

    def part(module: Module) -> str | None:
        names = (".".join(module[:length]) for length in range(1, len(module) + 1))
        return next((name for name in names if name in level), None)

    return [
        str(one)
        for one in found
        if (a := part(one.importer)) and (b := part(one.imported)) and a != b and level[a] >= level[b]
    ]


def layers_by_contract() -> dict[str, list[set[str]]]:
    """The layers that import-linter is given, by the contract's name."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {
        one["name"]: [{name.strip() for name in layer.split("|")} for layer in one["layers"]]
        for one in contracts
        if one["type"] == "layers"
    }


def test_no_files_and_no_folders_import_each_other_in_a_circle() -> None:
    assert circles(imports(OPERATOR)) == []


@pytest.mark.parametrize("contract", layers_by_contract())
def test_no_layer_imports_from_one_above_it(contract: str) -> None:
    assert climbs(imports(OPERATOR), layers_by_contract()[contract]) == []


UP = {
    "at the top": "from slipway.high import thing\n",
    "a module by its package": "from slipway import high\n",
    "inside a function": "def late():\n    import slipway.high\n",
    "for types alone": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from slipway.high import thing\n",
}


@pytest.mark.parametrize("text", UP.values(), ids=UP)
def test_an_import_that_closes_a_circle_and_runs_back_up_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "slipway" / "low").mkdir(parents=True)
    (tmp_path / "slipway" / "high.py").write_text("from slipway.low import other\n")
    (tmp_path / "slipway" / "low" / "__init__.py").write_text("from slipway.low.inner import other\n")
    inner = tmp_path / "slipway" / "low" / "inner.py"
    inner.write_text("other = 1\n")
    layers = [{"slipway.high"}, {"slipway.low"}]
    assert (circles(imports(tmp_path)), climbs(imports(tmp_path), layers)) == ([], [])

    inner.write_text(f"{text}\nother = 1\n")
    (circle,) = circles(imports(tmp_path))
    (climb,) = climbs(imports(tmp_path), layers)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "high" in one)
    assert climb == f"slipway/low/inner.py:{line} imports slipway.high"
    assert climb in circle
    assert "slipway/high.py:1 imports slipway.low.__init__" in circle
