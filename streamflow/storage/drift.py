"""Has data become another one than that which a plan was made of?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamflow.storage.profile import ColumnProfile

#: Shares that differ by more are another matter; so are lengths and runs by more than a factor.
SHARE: Final = 0.25
FACTOR: Final = 4.0
BITS: Final = 12


def drift(before: Sequence[ColumnProfile], now: Sequence[ColumnProfile]) -> list[str]:
    """What passes the bound, in words, by column; nothing where the plan's data is like this."""
    known = {profile.path: profile for profile in before}
    pairs = [(known[profile.path], profile) for profile in now if profile.path in known]
    return [f"{new.path}: {words}" for old, new in pairs if (words := _drift(old, new))]


def _drift(old: ColumnProfile, new: ColumnProfile) -> str | None:
    if not old.values or not new.values:
        return None if old.values == new.values else "values where there were none, or none"
    if old.constant != new.constant:
        return "one value no more" if old.constant else "one value only"
    if old.constant:
        return None
    shares = {
        "null": (old.nulls, new.nulls),
        "seen before": (old.repeats, new.repeats),
        "ascending": (old.ordered, new.ordered),
    }
    for name, (was, is_) in shares.items():
        if was is not None and is_ is not None and abs(was - is_) > SHARE:
            return f"{is_:.0%} {name}, it was {was:.0%}"
    for name, was, is_ in (
        ("runs of", old.run, new.run),
        ("bytes each:", old.mean_length, new.mean_length),
    ):
        if was and is_ and not 1 / FACTOR <= is_ / was <= FACTOR:
            return f"{name} {is_:,.0f}, it was {was:,.0f}"
    was, is_ = old.spread_bits, new.spread_bits
    if was is not None and is_ is not None and abs(was - is_) > BITS:
        return f"spread over {is_} bits, it was {was}"
    return None
