"""Sizes and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightex.core.errors import ConfigError
from lightex.core.units import format_age, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("1.5 GB", 1_500_000_000), ("512M", 512 << 20), (7, 7), ("0", 0), ("1kB", 1000)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), (3, 3), ("250ms", 0.25)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("bad", ["", "much", "-1", "1 parsec", "1e400", True, -1, float("nan"), None])
def test_what_is_neither_is_refused(bad):
    with pytest.raises(ConfigError, match="not a size"):
        parse_size(bad)
    with pytest.raises(ConfigError, match="not a duration"):
        parse_duration(bad)


@given(st.integers(0, 2**50))
def test_a_shown_size_is_near_what_it_shows(size):
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.01, abs=1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (75, "01:15"), (3700, "1h 01m"), (90000, "1d 01h"), (-75, "0.0 s"), (None, "-")],
)
def test_shown_durations(seconds, shown):
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "0 s ago"), (45, "45 s ago"), (720, "12 min ago"), (4 * 86400, "4 d ago")]
)
def test_shown_ages(seconds, shown):
    assert format_age(seconds) == shown
