"""What mkdocs lacks: a list of the decisions, pictures that follow the page's colours, links to files outside docs/."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_DECISIONS = (
    "Each page says what was decided, which options were measured, and what would reopen the question."
    " They are for those who change Slipway: no guide needs them."
)
_LONG_NAME = re.compile(r"(?<=<code>)[\w/.:\[\]{}-]{30,}(?=</code>)")
log = logging.getLogger("mkdocs.hooks")


def on_files(files: Any, config: Any) -> Any:
    """Add the page that lists the decisions: the navigation names this page alone."""
    files.append(File.generated(config, "decisions/index.md", content=_decisions_page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show a link out of docs/ as the path in the repository: the site holds the pages alone."""
    if page.file.src_uri.startswith("decisions/"):
        page.meta["search"] = {"boost": 0.2}  # a reader who searches for a field wants its reference first
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


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Put SVG pictures into the page, let long names break at their joints, and repair bars of code in tables."""
    here = (DOCS / page.file.src_uri).parent
    html = re.sub(r'<img alt="[^"]*" src="([^":]+\.svg)"[^>]*>', lambda image: (here / image[1]).read_text(), html)
    html = _LONG_NAME.sub(lambda name: re.sub("([/_.]|::)", r"\1<wbr>", name[0]), html)
    # In code of a table a bar is written escaped, and Python-Markdown shows the backslash.
    return re.sub(r"<td>.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html)


def _decisions_page() -> str:
    """A table of the decisions; a title may repeat the number of its file."""
    lines = ["# Design decisions", "", _DECISIONS, "", "| | decision |", "|---|---|"]
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        number = int(path.name[:4])
        title = re.sub(r"^# (\d+[.:] )?", "", path.read_text().split("\n", 1)[0])
        lines.append(f"| {number} | [{title}]({path.name}) |")
    return "\n".join(lines) + "\n"
