"""dev/images: when an image is built anew."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in ("cluster", "images"):
        monkeypatch.syspath_prepend(str(REPOSITORY / "dev" / folder))
    from devimages import build

    return build


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("operator/slipway", "plugins/slipway_plugins", "tests"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "module.py").write_text("VALUE = 1\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["operator/slipway/module.py", "plugins/slipway_plugins/new.py", "Dockerfile"])
def test_a_change_of_what_is_in_an_image_has_it_built_anew(images: ModuleType, checkout: Path, changed: str):
    before = images.digest(checkout, "operator")
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert images.digest(checkout, "operator") != before


@pytest.mark.parametrize("changed", ["tests/module.py", "operator/slipway/__pycache__/module.cpython-311.pyc"])
def test_a_change_of_what_is_in_no_image_has_none_built_anew(images: ModuleType, checkout: Path, changed: str):
    before = images.digest(checkout, "operator")
    (checkout / changed).parent.mkdir(exist_ok=True)
    (checkout / changed).write_text("changed\n")
    assert images.digest(checkout, "operator") == before


def test_a_target_that_is_not_built_here_is_refused_by_name(images: ModuleType, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        images.main(["serving"])
    assert "serving: not built here; one of operator, runtime is" in capsys.readouterr().err
