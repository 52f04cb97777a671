"""Small texts for people: ages, durations, sizes, digests."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.cli.terminal import visible


def duration(span: timedelta) -> str:
    """The two largest units: `7s`, `1m05s`, `2h03m`, `3d04h`. Never negative."""
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
    """How long, until now where it has not ended; `-` where it has not begun."""
    return duration((ended or now) - started) if started else "-"


def since(moment: datetime | str | None, now: datetime) -> str:
    """How long ago; a text is RFC 3339."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return duration(now - moment) if moment else "-"


def size(count: int | None) -> str:
    """Bytes in decimal units, three digits: `4.07 MB`."""
    if count is None:
        return "-"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if unit != "B" else f"{count} B"


def number(value: float) -> str:
    """Counts in full, `1,257`; anything else to four digits."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"


def short_digest(digest: str) -> str:
    """`sha256:` and twelve digits: enough to tell artifacts apart by eye."""
    return digest[:19]


def one_line(text: str | None) -> str:
    """The text on one line, and visible: it cannot pretend to be a line of ours."""
    return visible(" ".join((text or "").split()))
