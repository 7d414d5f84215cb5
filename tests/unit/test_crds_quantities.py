"""Sizes and durations."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_crds.common import Limit
from tenantry_crds.plan import PlanDatabase
from tenantry_crds.quantities import parse_duration, parse_quantity
from tenantry_crds.schema import render_schema

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@given(number=st.integers(0, 10**12), unit=st.sampled_from(sorted(UNITS)))
def test_a_quantity_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_quantity(f"{number}{unit}") == number * UNITS[unit]


@given(st.integers(0, 2**63))
def test_a_whole_number_is_bytes(number: int) -> None:
    assert parse_quantity(number) == number


@given(whole=st.integers(0, 10**6), tenths=st.integers(0, 9), unit=st.sampled_from(sorted(UNITS)))
def test_a_fraction_of_a_byte_counts_as_a_byte(whole: int, tenths: int, unit: str) -> None:
    assert parse_quantity(f"{whole}.{tenths}{unit}") == -(-(whole * 10 + tenths) * UNITS[unit] // 10)


@given(st.integers(0, 10**9), st.sampled_from(sorted(SECONDS)))
def test_a_duration_is_its_number_in_seconds(number: int, unit: str) -> None:
    assert math.isclose(parse_duration(f"{number}{unit}"), number * SECONDS[unit])


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("60s", 60.0), ("5m", 300.0), ("2h", 7200.0), ("1.5s", 1.5)]
)
def test_durations_of_the_documentation(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "Gi", "5GB", "5 Gi", "-5Gi", "+5", "512m", "1e3", "5gi", "0x10", "\u0665", "5Gi\n", "1,5Gi", ".5", "5."],
)
def test_what_is_no_size_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_quantity(text)


@pytest.mark.parametrize("value", [-1, True, None, 1.5, []])
def test_other_values_are_no_sizes(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(value))):
        parse_quantity(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["", "60", "s", "60 s", "-1s", "1d", "1h30m", "60S", "\u0665s", "60s\n", 60, None]
)
def test_what_is_no_duration_is_named_in_the_error(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(value))):
        parse_duration(value)  # type: ignore[arg-type]


def _accepts(pattern: str, text: str) -> bool:
    return re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None


TEXT = st.text(alphabet="0123456789.kKMGTPEimshn -+e", max_size=6)


@given(TEXT)
def test_the_api_server_accepts_the_sizes_that_parse(text: str) -> None:
    pattern = render_schema(Limit)["properties"]["limit"]["pattern"]
    try:
        parse_quantity(text)
    except ValueError:
        assert not _accepts(pattern, text)
    else:
        assert _accepts(pattern, text)


@given(TEXT)
def test_the_api_server_accepts_the_durations_that_parse(text: str) -> None:
    pattern = render_schema(PlanDatabase)["properties"]["statementTimeout"]["pattern"]
    try:
        parse_duration(text)
    except ValueError:
        assert not _accepts(pattern, text)
    else:
        assert _accepts(pattern, text)
