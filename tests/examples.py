"""How many examples a law is tried on: in every run, and in the nightly one."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import settings

#: What a law is tried on in the nightly run, all its cases together.
NIGHTLY = 10_000


def load_profile(environ: Mapping[str, str]) -> None:
    """Take the profile that is said, else that of CI where it is, else that of a laptop."""
    settings.register_profile("laptop", deadline=None)
    settings.register_profile("ci", derandomize=True, deadline=None)
    # A failure of the night is repeated in the morning by the line that it prints.
    settings.register_profile("nightly", deadline=None, max_examples=NIGHTLY, print_blob=True)
    settings.load_profile(
        environ.get("HYPOTHESIS_PROFILE") or ("ci" if "CI" in environ else "laptop")
    )


def examples(each: int, cases: int = 1) -> settings:
    """`each` examples of a law; in the nightly profile 10,000.

    A law that is parametrized says over how many `cases`, which share the examples of the night. A
    law without this is tried on 100 examples of each case, and on 10,000 in the night.
    """
    if settings.get_current_profile_name() == "nightly":
        return settings(max_examples=max(each, -(-NIGHTLY // cases)))
    return settings(max_examples=each)
