"""Tables: aligned columns for pipes and logs, rich ones for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipway.cli.exits import FAILED
from slipway.cli.options import Output
from slipway.cli.terminal import console, escaped, interactive, say, visible
from slipway.cli.texts import one_line

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from slipway.api.findings import Finding

GAP = "   "
_STATES = frozenset({"PHASE", "STATE", "OUTCOME", "RIGHT"})
"""Columns whose words have colours."""
_STYLES = {
    **dict.fromkeys(("Ready", "Succeeded", "yes"), "green"),
    **dict.fromkeys(("Failed", "Degraded", "no"), "red"),
    **dict.fromkeys(("Running", "Compressing", "Evaluating", "RollingOut"), "cyan"),
    **dict.fromkeys(("Pending", "Restarting", "Preempted", "Suspended"), "yellow"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. lines: what is said above the rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    lines: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Each text on its own line, whatever it holds: widths are those of what is seen."""
        seen = tuple(tuple(one_line(cell) for cell in row) for row in self.rows)
        object.__setattr__(self, "rows", seen)
        object.__setattr__(self, "title", one_line(self.title))
        object.__setattr__(self, "lines", tuple(one_line(line) for line in self.lines))


def plain(table: Table) -> str:
    """Columns as wide as their widest cell, the last one as it comes; no colours, nothing cut."""
    above = [line for line in (table.title, *table.lines) if line]
    if not table.rows:
        return "\n".join(above)
    rows = (table.columns, *table.rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    body = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*above, *body])


def coloured(tables: Iterable[Table]) -> Group:
    """The tables for rich: as wide as the terminal, words of state in colour."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RenderableType] = []
    for table in tables:
        if table.title:
            parts.append(Text(table.title, style="bold"))
        parts += [Text(line) for line in table.lines]
        if table.rows:
            grid = RichTable(box=None, pad_edge=False, header_style="dim")
            for place, name in enumerate(table.columns):
                grid.add_column(name, overflow="fold", no_wrap=place == 0)  # a name is copied whole
            for row in table.rows:
                cells = zip(table.columns, row, strict=True)
                grid.add_row(*(Text(cell, style=_style(column, cell)) for column, cell in cells))
            parts.append(grid)
        parts.append(Text())
    return Group(*parts[:-1])


def _style(column: str, cell: str) -> str:
    return _STYLES.get(cell, "") if column in _STATES else ""


def print_tables(tables: Sequence[Table]) -> None:
    """Rich on a terminal, plain elsewhere."""
    if interactive():
        console().print(coloured(tables))
    else:
        say("\n\n".join(plain(table) for table in tables))


def print_findings(found: Sequence[Finding], output: Output) -> int:
    """A line for each. Returns the exit code: 1 where anything fails."""
    if output is Output.TABLE:
        said = ("; ".join(filter(None, (one.what, one.cure))) for one in found)
        rows = tuple((one.check, one.level, words) for one, words in zip(found, said, strict=True))
        print_tables([Table(("CHECK", "RESULT", "WHAT"), rows)])
    else:
        print_data([one._asdict() for one in found], output)
    return FAILED if any(one.level == "fail" for one in found) else 0


def print_data(value: Any, output: Output) -> None:
    """JSON or YAML of plain data."""
    if output is Output.JSON:
        say(escaped(json.dumps(value, indent=2, ensure_ascii=False)))
    else:
        import yaml

        tree = json.loads(json.dumps(value))  # nothing shared, so that YAML has no anchors
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        if visible(text) != text:
            text = yaml.safe_dump(tree, sort_keys=False)  # YAML's own escapes, in double quotes
        say(text, end="")
