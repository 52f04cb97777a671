"""A plan that holds the loop is reported by its resource's name: while it lasts, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from slipway.api.kinds import MODEL_DEPLOYMENT, Key
from slipway.controller.telemetry import Telemetry
from slipway.reconcile.log import structured_log
from slipway.reconcile.watchdog import Watchdog

SLOW = Key(MODEL_DEPLOYMENT, "team", "slow")
LIMIT_SECONDS = 0.05
NAMED = {"kind": "ModelDeployment", "namespace": "team", "name": "slow"}


def until(true: Callable[[], bool]) -> None:
    due = time.monotonic() + 10
    while not true():
        assert time.monotonic() < due
        time.sleep(0.005)


def test_what_holds_the_loop_is_named_once_while_it_does() -> None:
    watchdog = Watchdog(LIMIT_SECONDS, log=structured_log())
    with capture_logs() as logs:
        watchdog.start()
        with watchdog.holding(SLOW):
            until(lambda: bool(logs))
            time.sleep(4 * LIMIT_SECONDS)
            told = list(logs)
        watchdog.stop()
    assert [{name: one[name] for name in NAMED} for one in told] == [NAMED]
    assert told[0]["log_level"] == "error"
    assert told[0]["seconds"] >= LIMIT_SECONDS


def test_a_plan_that_took_long_is_reported_and_counted() -> None:
    telemetry = Telemetry("host", "lease")
    watchdog = Watchdog(LIMIT_SECONDS, telemetry.held, structured_log())
    with capture_logs() as logs, watchdog.holding(SLOW):
        time.sleep(2 * LIMIT_SECONDS)
    assert [one["event"] for one in logs] == ["planning held the loop"]
    assert b'slipway_loop_held_total{controller="modeldeployment"} 1.0' in telemetry.render()


def test_a_quick_plan_is_no_news_also_where_it_fails() -> None:
    watchdog = Watchdog(10.0, log=structured_log())
    with capture_logs() as logs:
        with watchdog.holding(SLOW):
            pass
        with pytest.raises(ValueError, match="x"), watchdog.holding(SLOW):
            int("x")
    assert logs == []
    assert watchdog._held is None
