"""What is said of an exception or a value that is not ours, whatever it is."""

from __future__ import annotations

#: The longest words that leave with a record; a message may hold the whole value that it is about.
MOST_CHARACTERS = 1_000

#: What is no failure of a user's function. Anything else that it raises is one: also what is no
#: `Exception`, as libraries in Rust raise where they panic, and a cancellation of its own.
NOT_ITS_OWN = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)


def words_of(error: BaseException) -> str:
    """Its kind and its words, if it has any that can be had."""
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    except Exception:  # of a user's exception anything may fail
        return f"{kind}: it cannot say what is wrong"


def cut(words: str) -> str:
    """The words, or their beginning, and how many there were."""
    if len(words) <= MOST_CHARACTERS:
        return words
    return f"{words[:MOST_CHARACTERS]}... ({len(words):,} characters)"


def shown(value: object) -> str:
    """Its repr, or the beginning of it; only its kind where it has none."""
    try:
        return cut(repr(value))
    except Exception:  # as above
        return f"a {type(value).__name__}"


def as_bytes(words: str) -> bytes:
    """As UTF-8; what is none, for which exceptions care little, is escaped as in Python."""
    return words.encode(errors="backslashreplace")
