"""Small texts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.cli.rendering.tables import Table, coloured, duration, number, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (59.9, "59s"), (65, "1m05s"), (3599, "59m59s"), (7380, "2h03m"), (86_400 * 3 + 14_400, "3d04h")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (407_082, "407 kB"),
        (999_600, "1 MB"),
        (4.07e6, "4.07 MB"),
    ],
)
def test_a_size_has_three_digits_and_a_decimal_unit(count: int | None, text: str) -> None:
    assert size(count) == text


def test_counts_are_shown_in_full_and_other_figures_to_four_digits() -> None:
    assert [number(value) for value in (1257.0, 0.97037, 5.722e-06, 0.0)] == ["1,257", "0.9704", "5.722e-06", "0"]


def test_on_a_terminal_words_of_state_have_colours_and_the_text_is_the_same() -> None:
    from rich.console import Console

    console = Console(force_terminal=True, color_system="standard", width=80, legacy_windows=False)
    with console.capture() as captured:
        console.print(
            coloured([Table(("NAME", "PHASE"), (("x", "Failed"), ("[y]", "Ready"), ("Ready", "-")), title="T")])
        )
    shown = captured.get()
    assert "\x1b[31mFailed" in shown
    assert shown.count("\x1b[32mReady") == 1  # a name is no state
    assert "[y]" in shown  # markup in a cell is text
