"""What is fetched of each partition at once."""

from hypothesis import given
from hypothesis import strategies as st

from streamflow.engine.fetch_share import FETCHES_HELD, LARGEST, SMALLEST, fetch_share


@given(st.integers(1, 2**34), st.integers(1, 2_000))
def test_all_shares_together_keep_within_the_budget(budget: int, partitions: int) -> None:
    share = fetch_share(budget, partitions)
    assert SMALLEST <= share <= LARGEST
    assert share * FETCHES_HELD * partitions <= budget or share == SMALLEST


def test_few_partitions_are_fetched_as_fast_as_can_be() -> None:
    assert fetch_share(256 * 1024 * 1024, 16) == LARGEST
    assert fetch_share(256 * 1024 * 1024, 100) == 671_088
