"""A law is tried on as many examples as its profile says."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples, load_profile


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = settings.get_current_profile_name()
    yield
    settings.load_profile(before)


@pytest.mark.parametrize(
    ("environ", "name", "counts"),
    [
        ({}, "laptop", (30, 20_000, 30, 100)),
        ({"CI": "true"}, "ci", (30, 20_000, 30, 100)),
        (
            {"CI": "true", "HYPOTHESIS_PROFILE": "nightly"},
            "nightly",
            (10_000, 20_000, 3334, 10_000),
        ),
    ],
)
def test_the_night_has_ten_thousand(
    environ: dict[str, str], name: str, counts: tuple[int, ...]
) -> None:
    load_profile(environ)
    assert settings.get_current_profile_name() == name
    made = [examples(30), examples(20_000), examples(30, cases=3), settings()]
    assert tuple(each.max_examples for each in made) == counts
    assert all(each.deadline is None for each in made)


def test_a_law_of_the_night_runs_as_often_as_it_says() -> None:
    load_profile({"HYPOTHESIS_PROFILE": "nightly"})
    seen: list[int] = []

    @examples(10, cases=10)
    @given(st.integers())
    def law(number: int) -> None:
        seen.append(number)

    law()
    assert len(seen) == 1_000
