"""What the pages tell a reader to type is there: files, options, make's targets, and resources that the API takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from slipway.api.kinds import API_VERSION
from slipway.cli.main import app
from support.examples import fenced, resource

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if path.name not in ("cli.md",)  # made from the commands themselves
)
TOP = {path.name for path in ROOT.iterdir()} - {"build", ".venv"}
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command line of indented and fenced blocks, pipes and lists taken apart, comments left out."""
    blocks = [*re.findall(r"(?:^|\n\n)((?: {4}\S.*\n)+)", text), *fenced(text, "sh"), *fenced(text, "bash")]
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in re.split(r"\s\|\s|&&|;", re.split(r"\s#\s", line)[0]):
            try:
                yield shlex.split(part)
            except ValueError:  # not a command: a text of another kind in a block
                continue


def missing_files(words: list[str]) -> list[str]:
    """Words that begin like a path of the repository and lead nowhere."""
    paths = [word.removeprefix("./").partition(":")[0] for word in words]
    return [path for path in paths if "/" in path and path.split("/")[0] in TOP and not (ROOT / path).exists()]


def unknown_options(words: list[str]) -> list[str]:
    """Subcommands and options of `slipway` that it does not have."""
    command = typer.main.get_command(app)
    words = [word for word in words if word != "..."]
    place = 1
    while place < len(words) and hasattr(command, "commands") and not words[place].startswith("-"):
        if words[place] not in command.commands:
            return [words[place]]
        command = command.commands[words[place]]
        place += 1
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "--install-completion", "--show-completion"}
    return [word for word in words[place:] if re.match(r"--?[a-zA-Z]", word) and word.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_of_a_page_name_files_options_and_targets_that_exist(page: Path) -> None:
    for words in commands(page.read_text()):
        assert missing_files(words) == [], words
        if words[:1] == ["slipway"]:
            assert unknown_options(words) == [], words
        if words[:1] == ["make"]:
            assert [word for word in words[1:] if "=" not in word and word not in TARGETS] == [], words


def test_wrong_commands_are_found() -> None:
    page = list(commands("text\n\n    slipway run -f examples/none.yaml --nonsense && make none  # or not\n"))
    assert page == [["slipway", "run", "-f", "examples/none.yaml", "--nonsense"], ["make", "none"]]
    assert missing_files(page[0]) == ["examples/none.yaml"]
    assert unknown_options(page[0]) == ["--nonsense"]
    assert unknown_options(["slipway", "fly"]) == ["fly"]
    assert unknown_options(["slipway", "plugin", "list", "--local"]) == []


def test_resources_that_pages_show_are_what_the_api_takes() -> None:
    shown = [
        document
        for page in PAGES
        for block in fenced(page.read_text(), "yaml")
        for document in yaml.safe_load_all(block)
        if isinstance(document, dict) and document.get("apiVersion") == API_VERSION
    ]
    assert {document["kind"] for document in shown} >= {"TrainingJob", "ModelDeployment", "GPUPool", "ArtifactStore"}
    for document in shown:
        assert resource(document).spec is not None


def test_the_page_on_plugins_shows_the_files_of_the_example() -> None:
    page = (ROOT / "docs/how-to/plugin.md").read_text()
    for name, language in (("svd_linear.py", "python"), ("pyproject.toml", "toml"), ("Dockerfile", "dockerfile")):
        assert (ROOT / "examples/plugin" / name).read_text() in fenced(page, language)


TRUST = (ROOT / "docs/explanation/trust.md").read_text()
HELD = re.search(r"## What holds\n(.*?)\n## ", TRUST, re.DOTALL)
SENTENCES = re.findall(r"^- (.*?)(?=\n- |\n\n|\Z)", HELD[1] if HELD else "", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda text: " ".join(text.split()[:6]))
def test_each_sentence_of_the_threat_model_names_a_test_that_is_there(sentence: str) -> None:
    named = re.findall(r"`(tests/[\w/]+[.]py)::(\w+)`", sentence)
    assert named
    for path, test in named:
        assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{test}"


def test_the_threat_model_is_read_whole() -> None:
    assert len(SENTENCES) == TRUST[: TRUST.index("## What does not hold")].count("\n- ") > 20
