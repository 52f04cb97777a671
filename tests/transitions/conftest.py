"""The fixture of all tests of spec transitions: it captures the operator's log, which would drown a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def captured_logs() -> Iterator[list[dict[str, object]]]:
    """Yield the lines that the operator logs during the test."""
    with capture_logs() as logs:
        yield logs  # type: ignore[misc]
