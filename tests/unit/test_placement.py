"""Which server a tenant goes to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.tenants.placement import Candidate, check_pin, choose

POOL = Candidate(
    key=("tenantry-system", "pool-a"),
    engine="PostgreSQL",
    shared=True,
    dedicated=False,
    region="eu-central-1",
    ready=True,
    cordoned=False,
    capacity=None,
    tenants=5,
)
OTHER = replace(POOL, key=("tenantry-system", "pool-b"), tenants=3, region="us-east-1")


def test_the_least_loaded_is_chosen() -> None:
    assert choose([POOL, OTHER], engine="PostgreSQL", regions=()) is OTHER


def test_regions_are_held() -> None:
    assert choose([POOL, OTHER], engine="PostgreSQL", regions=("eu-central-1",)) is POOL


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cordoned": True}, "cordoned"),
        ({"ready": False}, "not ready"),
        ({"capacity": 5}, "full"),
        ({"region": "mars"}, "region mars"),
    ],
)
def test_what_stands_in_the_way_is_told(changes: dict[str, object], word: str) -> None:
    with pytest.raises(Waiting, match=word) as caught:
        choose([replace(POOL, **changes)], engine="PostgreSQL", regions=("eu-central-1",))  # type: ignore[arg-type]
    assert caught.value.reason == "NoInstance"


def test_no_instance_of_the_engine() -> None:
    with pytest.raises(Waiting, match="create one"):
        choose([POOL, replace(OTHER, shared=False, engine="MySQL")], engine="MySQL", regions=())


def test_a_pin_overrides_cordon_but_not_capacity_region_or_engine() -> None:
    check_pin(replace(POOL, cordoned=True), engine="PostgreSQL", regions=(), resident=False)
    with pytest.raises(Waiting):
        check_pin(replace(POOL, capacity=5), engine="PostgreSQL", regions=(), resident=False)
    check_pin(replace(POOL, capacity=5), engine="PostgreSQL", regions=(), resident=True)
    with pytest.raises(Stalled):
        check_pin(POOL, engine="PostgreSQL", regions=("us-east-1",), resident=False)
    with pytest.raises(Stalled):
        check_pin(POOL, engine="MySQL", regions=(), resident=False)


@given(
    st.lists(
        st.builds(
            Candidate,
            key=st.tuples(st.just("n"), st.text("abc", min_size=1, max_size=3)),
            engine=st.sampled_from(["PostgreSQL", "MySQL"]),
            shared=st.booleans(),
            region=st.sampled_from([None, "eu", "us"]),
            ready=st.booleans(),
            cordoned=st.booleans(),
            capacity=st.one_of(st.none(), st.integers(0, 5)),
            tenants=st.integers(0, 5),
        )
    ),
    st.lists(st.sampled_from(["eu", "us"]), max_size=2),
)
def test_only_a_fitting_instance_is_ever_chosen(candidates: list[Candidate], regions: list[str]) -> None:
    try:
        chosen = choose(candidates, engine="PostgreSQL", regions=regions)
    except Waiting:
        return
    assert chosen.engine == "PostgreSQL"
    assert chosen.shared and chosen.ready and not chosen.cordoned and not chosen.full
    assert not regions or chosen.region in regions
