"""A law is tried on as many examples as its profile says."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples, law, load_profile


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = settings.get_current_profile_name()
    yield
    settings.load_profile(before)


@pytest.mark.parametrize(
    ("environ", "name", "laws", "others"),
    [
        ({}, "laptop", (200, 450, 67), (30, 30)),
        ({"CI": "true"}, "ci", (50, 112, 17), (30, 30)),
        (
            {"CI": "true", "HYPOTHESIS_PROFILE": "nightly"},
            "nightly",
            (10_000, 10_000, 3_334),
            (10_000, 3_334),
        ),
    ],
)
def test_the_night_has_ten_thousand(
    environ: dict[str, str], name: str, laws: tuple[int, ...], others: tuple[int, ...]
) -> None:
    load_profile(environ)
    assert settings.get_current_profile_name() == name
    made = [law(), law(450), law(cases=3), examples(30), examples(30, cases=3)]
    assert tuple(each.max_examples for each in made) == laws + others
    assert all(each.deadline is None for each in made)


def test_what_says_more_than_ten_thousand_keeps_it() -> None:
    load_profile({"HYPOTHESIS_PROFILE": "nightly"})
    assert law(20_000).max_examples == examples(20_000).max_examples == 20_000


def test_a_law_is_not_tried_on_fewer() -> None:
    with pytest.raises(AssertionError, match="a law is tried on 200 examples, and not on 199"):
        law(199)


def test_a_law_of_the_night_runs_as_often_as_it_says() -> None:
    load_profile({"HYPOTHESIS_PROFILE": "nightly"})
    seen: list[int] = []

    @law(cases=10)
    @given(st.integers())
    def one(number: int) -> None:
        seen.append(number)

    one()
    assert len(seen) == 1_000
