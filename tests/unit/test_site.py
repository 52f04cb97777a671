"""The site as its readers get it: built once, and read as files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "dev/site/mkdocs.yml"), site_dir=str(folder)))
    return folder


def text_of(site: Path, page: str) -> str:
    return (site / page).read_text()


def test_opening_a_page_asks_no_other_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r'<(?:script|img|iframe)\b[^>]*\bsrc="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link\b[^>]*\bhref="([^"]+)"', page.read_text())
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)[\"']?(https?:)?//", sheet.read_text()), sheet


def test_a_search_for_a_field_leads_to_its_anchor(site: Path) -> None:
    entries = json.loads(text_of(site, "search/search_index.json"))["docs"]
    found = {entry["location"]: entry for entry in entries}["reference/fields.html#trainingjob-spec-restarts-max"]
    assert found["title"] == "trainingjob.spec.restarts.max"
    assert "another attempt" in found["text"]


def test_decisions_are_in_a_list_and_not_in_the_navigation(site: Path) -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("0*.md"))
    listed = text_of(site, "decisions/index.html")
    assert all(f'href="{path.stem}.html"' in listed for path in decisions)
    tutorial = text_of(site, "tutorial.html")
    assert [path.stem for path in decisions if path.stem in tutorial] == []


def test_the_picture_of_the_chain_is_part_of_the_landing_page(site: Path) -> None:
    """An <img> would follow the colours of the system, and not those that the reader chose."""
    landing = text_of(site, "index.html")
    assert re.search(r'<svg [^>]*class="chain"', landing)
    assert ">ModelDeployment</text>" in landing


def test_a_reader_can_choose_dark_colours(site: Path) -> None:
    assert re.findall(r'data-md-color-scheme="(\w+)"', text_of(site, "index.html")).count("slate") >= 1
