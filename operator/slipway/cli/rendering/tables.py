"""Tables, aligned for pipes and coloured for a terminal; data as JSON and YAML; and the texts of cells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from slipway.cli.rendering.errors import FAILED
from slipway.cli.rendering.terminal import console, escaped, interactive, one_line, say, visible

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from slipway.api.errors import Finding

GAP = "   "
_STATES = frozenset({"PHASE", "STATE", "OUTCOME", "RIGHT"})
"""Columns whose words have colours."""
_STYLES = {
    **dict.fromkeys(("Ready", "Succeeded", "yes"), "green"),
    **dict.fromkeys(("Failed", "Degraded", "no"), "red"),
    **dict.fromkeys(("Running", "Compressing", "Evaluating", "RollingOut"), "cyan"),
    **dict.fromkeys(("Pending", "Restarting", "Preempted", "Suspended"), "yellow"),
}


class Output(StrEnum):
    """Formats of a printed result."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. lines: printed above the rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    lines: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Make each text one visible line, so that widths are those of the output."""
        seen = tuple(tuple(one_line(cell) for cell in row) for row in self.rows)
        object.__setattr__(self, "rows", seen)
        object.__setattr__(self, "title", one_line(self.title))
        object.__setattr__(self, "lines", tuple(one_line(line) for line in self.lines))


def plain(table: Table) -> str:
    """Return the table as text, with columns as wide as their widest cell, without colours."""
    above = [line for line in (table.title, *table.lines) if line]
    if not table.rows:
        return "\n".join(above)
    rows = (table.columns, *table.rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    body = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*above, *body])


def coloured(tables: Iterable[Table]) -> Group:
    """Return the tables for rich: as wide as the terminal, with phases in colour."""
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
    """Print tables by rich on a terminal, as plain text elsewhere."""
    if interactive():
        console().print(coloured(tables))
    else:
        say("\n\n".join(plain(table) for table in tables))


def print_findings(found: Sequence[Finding], output: Output) -> int:
    """Print a line for each finding, and return the exit code: 1 if one fails."""
    if output is Output.TABLE:
        texts = ("; ".join(filter(None, (one.what, one.cure))) for one in found)
        rows = tuple((one.check, one.level, words) for one, words in zip(found, texts, strict=True))
        print_tables([Table(("CHECK", "RESULT", "WHAT"), rows)])
    else:
        print_data([one._asdict() for one in found], output)
    return FAILED if any(one.level == "fail" for one in found) else 0


def print_data(value: Any, output: Output) -> None:
    """Print plain data as JSON or YAML."""
    if output is Output.JSON:
        say(escaped(json.dumps(value, indent=2, ensure_ascii=False)))
    else:
        import yaml

        tree = json.loads(json.dumps(value))  # nothing shared, so that YAML has no anchors
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        if visible(text) != text:
            text = yaml.safe_dump(tree, sort_keys=False)  # YAML's own escapes, in double quotes
        say(text, end="")


# --- Texts of cells ----------------------------------------------------------------------------------------------


def duration(span: timedelta) -> str:
    """Return the two largest units: `7s`, `1m05s`, `2h03m`, `3d04h`. Never negative."""
    seconds = max(0, int(span.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes == 0:
        return f"{seconds}s"
    if hours == 0:
        return f"{minutes}m{seconds % 60:02}s"
    if days == 0:
        return f"{hours}h{minutes % 60:02}m"
    return f"{days}d{hours % 24:02}h"


def took(started: datetime | None, ended: datetime | None, now: datetime) -> str:
    """Return the duration, until now if it has not ended; `-` if it has not begun."""
    return duration((ended or now) - started) if started else "-"


def since(moment: datetime | str | None, now: datetime) -> str:
    """Return the time since the moment; a text is RFC 3339."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return duration(now - moment) if moment else "-"


def size(count: int | None) -> str:
    """Return bytes in decimal units with three digits: `4.07 MB`."""
    if count is None:
        return "-"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if unit != "B" else f"{count} B"


def number(value: float) -> str:
    """Return a count in full, `1,257`, and any other number with four digits."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"


def short_digest(digest: str) -> str:
    """Return `sha256:` and twelve digits, which distinguish artifacts."""
    return digest[:19]
