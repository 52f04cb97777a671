"""Stages of a run: named, timed, told as they begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console


@dataclass
class Stages:
    """Seconds by stage, in order."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Time what happens inside. A stage entered twice adds up."""
        started = time.monotonic()
        self.console.print(f"[bold]{name}[/bold]  {what}", highlight=False)
        yield
        took = time.monotonic() - started
        self.seconds[name] = round(self.seconds.get(name, 0) + took, 1)
        self.console.print(f"[green]done[/green]  {name}, {took:.1f} s", highlight=False)
