"""The hand-written pages of docs/reference hold what the planners say, and nothing that they do not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from slipway.api.trainingjob import AttemptOutcome

ROOT = Path(__file__).parents[2]
SPEAKING = [ROOT / "operator/slipway" / part for part in ("plan", "reconcile")]
PAGE = (ROOT / "docs/reference/conditions.md").read_text()
WORD = re.compile(r"[A-Z][A-Za-z]+")
SAYING = {
    "under_way",
    "stalled",
    "ready",
    "at_rest",
    "waiting",
    "blocked",
    "ConditionValue",
    "NotYet",
    "TerminalError",
    "RevisionProgress",
}
"""Functions of the planners whose arguments hold a reason; the other words among these are phases and stages."""


def trees() -> Iterator[ast.AST]:
    return (node for part in SPEAKING for path in part.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))


def words(node: ast.AST) -> set[str]:
    found = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))
    return {word for word in found if WORD.fullmatch(word)}


def said() -> set[str]:
    """Reasons by the calls that give them: as an argument, or as `reason=`."""
    reasons = {"InvalidSpec"}  # SpecError's default
    for node in trees():
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in SAYING:
            reasons |= {
                word for argument in node.args if isinstance(argument, ast.Constant) for word in words(argument)
            }
        if name == "EventRecord":
            reasons |= words(node.args[1])
        reasons |= {word for keyword in node.keywords if keyword.arg == "reason" for word in words(keyword.value)}
    return reasons - {"Pending", "Ready"}


def documented() -> set[str]:
    """The words in code style of the first columns of the tables, and of the Events."""
    tables = PAGE.partition("## Reasons of Ready")[2]
    cells = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    events = PAGE.partition("## Events")[2]
    available = PAGE.partition("`Available` of")[2].partition("\n\n")[0]
    text = " ".join([*cells, events, available])
    return {word for word in re.findall(r"`([A-Za-z]+)`", text) if WORD.fullmatch(word)}


def test_every_reason_that_a_planner_gives_is_documented() -> None:
    assert len(said()) > 25
    assert said() - documented() - {"Attempt"} == set()


def test_every_documented_reason_is_one_that_a_planner_gives() -> None:
    known = {word for node in trees() for word in words(node)} | {"InvalidSpec", "Running", "Stalled"}
    known |= {f"Attempt{outcome}" for outcome in AttemptOutcome}
    assert documented() - known == set()


def test_the_links_of_the_readme_and_of_the_guide_lead_to_files() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text())
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []
