"""What the site needs besides mkdocs: an order of pages that names none, and links to files outside docs/."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDERS = (
    ("How-to", "how-to"),
    ("Reference", "reference"),
    ("Explanation", "explanation"),
    ("Decisions", "decisions"),
)
log = logging.getLogger("mkdocs.hooks")


def on_config(config: Any) -> Any:
    """Every page of a folder is shown, in the order of file names."""
    sections = [{name: [page.relative_to(DOCS).as_posix() for page in _pages(folder)]} for name, folder in FOLDERS]
    config.nav = ["index.md", "tutorial.md", *sections, "benchmarks.md"]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link out of docs/ becomes the path in the repository: the site holds the pages alone."""
    here = (DOCS / page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (here / target).resolve()
        if path.is_relative_to(DOCS):
            return link[0]
        if not path.exists():
            log.warning("%s links to %s, which is not in the repository", page.file.src_uri, target)
        name = path.relative_to(ROOT).as_posix()
        return f"`{name}`" if name.endswith(text) else f"{text} (`{name}`)"

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)#\s]+)\)", shown, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """In code of a table a bar is written escaped, and Python-Markdown shows the backslash."""
    return re.sub(r"<td>.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html)


def _pages(folder: str) -> list[Path]:
    return sorted((DOCS / folder).glob("*.md"))
