"""How many examples a mutation test tries, from which seed: fixed unless the environment says otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings

SEED = int(os.environ.get("MUTATION_SEED", "0"))
SCALE = int(os.environ.get("MUTATION_EXAMPLES", "1"))
"""Times the usual number of examples."""


def tried(examples: int) -> Callable[[Any], Any]:
    """Decorates a hypothesis test: so many examples times MUTATION_EXAMPLES, drawn from MUTATION_SEED (default 0).

    The same seed draws the same examples; a failure is shrunk and shows them.
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
