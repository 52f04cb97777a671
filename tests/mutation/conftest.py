"""What all mutation tests share: the operator's own log would drown a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def told() -> Iterator[list[dict[str, object]]]:
    """What the operator logs during the test."""
    with capture_logs() as logs:
        yield logs  # type: ignore[misc]
