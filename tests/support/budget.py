"""The number of examples that a test of spec transitions draws, and their seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings

from support.seed import SEED

SCALE = int(os.environ.get("TRANSITION_EXAMPLES", "1"))
"""Times the usual number of examples."""


def tried(examples: int) -> Callable[[Any], Any]:
    """Decorate a hypothesis test: draw this number of examples, times TRANSITION_EXAMPLES, from the seed of the run.

    The same seed draws the same examples; hypothesis shrinks a failure and shows it.
    """
    chosen = settings(
        max_examples=examples * SCALE,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    return lambda test: seed(SEED)(chosen(test))
