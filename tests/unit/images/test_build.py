"""dev/images: when an image is built again."""

import dataclasses
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in ("cluster", "images"):
        monkeypatch.syspath_prepend(str(REPOSITORY / "dev" / folder))
    from devimages import recipes

    return recipes


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("operator/slipway", "plugins/slipway_plugins", "tests"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "module.py").write_text("VALUE = 1\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["operator/slipway/module.py", "plugins/slipway_plugins/new.py", "Dockerfile"])
def test_a_change_of_what_is_in_an_image_has_it_built_again(images: ModuleType, checkout: Path, changed: str):
    operator = dataclasses.replace(images.RECIPES["operator"], context=checkout)
    before = images.digest(operator)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert images.digest(operator) != before


@pytest.mark.parametrize("changed", ["tests/module.py", "operator/slipway/__pycache__/module.cpython-311.pyc"])
def test_a_change_of_what_is_in_no_image_has_none_built_again(images: ModuleType, checkout: Path, changed: str):
    operator = dataclasses.replace(images.RECIPES["operator"], context=checkout)
    before = images.digest(operator)
    (checkout / changed).parent.mkdir(exist_ok=True)
    (checkout / changed).write_text("changed\n")
    assert images.digest(operator) == before


def test_an_image_is_built_again_with_what_it_starts_from(images: ModuleType, monkeypatch: pytest.MonkeyPatch):
    before = images.digest(images.RECIPES["plugin"])
    monkeypatch.setitem(images.BASES, "native", ("python3", "another"))
    assert images.digest(images.RECIPES["plugin"]) != before


@pytest.mark.parametrize("program", ["build", "load"])
def test_a_target_that_is_not_built_here_is_refused_by_name(program: str):
    command = [str(REPOSITORY / "dev/images" / program), "trainer"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "trainer: not built here; one of operator, runtime, serving" in done.stderr
