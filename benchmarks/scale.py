"""How large each measurement is: as the bars are defined, or small enough for five minutes in all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """jobs, rounds: TrainingJobs applied at once, and pairs of runs. pairs: of single jobs.

    sizes: finished jobs for quiet, restart and growth; the quiet cluster has sizes[1] of them. quiet_seconds, with a
    resync every resync_seconds. event_rounds: of BURST events at each size.
    """

    name: str
    jobs: int
    rounds: int
    pairs: int
    sizes: tuple[int, int, int]
    quiet_seconds: float
    resync_seconds: float
    event_rounds: int


FULL = Scale("full", 1000, 5, 50, (100, 1000, 5000), 660.0, 600.0, 20)
QUICK = Scale("quick", 150, 2, 10, (100, 200, 600), 30.0, 10.0, 5)
