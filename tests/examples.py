"""How many examples a law is tried on: in every run, and in the nightly one."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import settings

#: What a law is tried on in every run, in one of CI, which has to end within minutes, and in the
#: nightly one; all its cases together.
EVERY_RUN, IN_CI, NIGHTLY = 200, 50, 10_000


def load_profile(environ: Mapping[str, str]) -> None:
    """Take the profile that is said, else that of CI where it is, else that of a laptop."""
    settings.register_profile("laptop", deadline=None)
    settings.register_profile("ci", derandomize=True, deadline=None)
    # A failure of the night is repeated in the morning by the line that it prints.
    settings.register_profile("nightly", deadline=None, max_examples=NIGHTLY, print_blob=True)
    settings.load_profile(
        environ.get("HYPOTHESIS_PROFILE") or ("ci" if "CI" in environ else "laptop")
    )


def law(count: int = EVERY_RUN, *, cases: int = 1) -> settings:
    """The examples of a law: 200, or a larger `count`; in CI a quarter of them, at night 10,000.

    A law that is parametrized says over how many `cases`, which share them.
    """
    assert count >= EVERY_RUN, f"a law is tried on {EVERY_RUN} examples, and not on {count}"
    profile = settings.get_current_profile_name()
    if profile == "nightly":
        count = max(count, NIGHTLY)
    elif profile == "ci":
        count = count * IN_CI // EVERY_RUN
    return settings(max_examples=-(-count // cases))


def examples(each: int, cases: int = 1) -> settings:
    """`each` examples of what is no law, of each of its cases; a night's are 10,000 together."""
    if settings.get_current_profile_name() == "nightly":
        return settings(max_examples=max(each, -(-NIGHTLY // cases)))
    return settings(max_examples=each)
