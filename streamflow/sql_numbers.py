"""Numbers of several kinds in one condition: integers, floats and decimals.

Where two types meet, Arrow casts to one of them, and refuses what that cannot hold: an integer
beyond 2^53 beside a float, or decimals that together have more than 38 digits. Here

- integers and floats are compared exactly, and computed as floats, rounded, as DuckDB does;
- decimals, and integers beside them, are compared and computed exactly, in up to 76 digits. What
  needs more for any value is refused when it is compiled, what needs more for a value fails there;
- decimals beside floats are floats, as Arrow and DuckDB have it.

A kernel is chosen once, by types, so that numbers of one kind cost what Arrow's own kernel costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.exact_cast import nearest_float

Kernel = Callable[..., Any]

#: Of a decimal in 256 bits.
MOST_DIGITS = 76
#: Of a factor, where a product could have more than `MOST_DIGITS`.
_FACTOR_DIGITS = MOST_DIGITS // 2
_BEYOND_INT64 = 2.0**63
_LAST_BEFORE = 2.0**63 - 1024
_COMPUTING = {pc.add_checked, pc.subtract_checked, pc.multiply_checked}


def between(value: Any, low: Any, high: Any) -> Any:
    return pc.and_kleene(pc.greater_equal(value, low), pc.less_equal(value, high))


#: Kernels before which a number that is written out is not rounded to a float.
COMPARING = {
    pc.equal,
    pc.not_equal,
    pc.greater,
    pc.greater_equal,
    pc.less,
    pc.less_equal,
    between,
}


def is_exact(kind: pa.DataType) -> bool:
    """Is it of integers, decimals or NULL?"""
    tests = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def written(digits: Decimal, beside: Sequence[pa.DataType]) -> pa.Scalar | None:
    """A number as a decimal of just its digits. None where a float has to do: beyond all that a
    column of these types can hold, which is as good, or of more digits than there are.
    """
    _, figures, exponent = digits.as_tuple()
    places = max(-int(exponent), 0)
    precision = max(len(figures) + max(int(exponent), 0), places)
    scales = [kind.scale for kind in beside if pa.types.is_decimal(kind)]
    if precision > MOST_DIGITS or precision - places > MOST_DIGITS - max(scales, default=0):
        return None
    return pa.scalar(digits, pa.decimal256(precision, places))


def fitted(kernel: Kernel, samples: Sequence[Any]) -> Kernel:
    """What compares or computes values of the types of these; the kernel itself where it does.

    Raises:
        OverflowError: it would need more digits than there are, in words.
    """
    if kernel is between:
        value, low, high = samples
        above = fitted(pc.greater_equal, (value, low))
        below = fitted(pc.less_equal, (value, high))
        return lambda value, low, high: pc.and_kleene(above(value, low), below(value, high))
    kinds = [sample.type for sample in samples]
    alike = kernel in COMPARING and len(set(kinds)) == 1
    if alike or kernel not in COMPARING | _COMPUTING:
        return kernel
    if any(map(pa.types.is_floating, kinds)) and any(map(pa.types.is_integer, kinds)):
        return _mixed(kernel) if kernel in COMPARING else _rounded(kernel)
    if any(map(pa.types.is_floating, kinds)) and any(map(pa.types.is_decimal, kinds)):
        return _rounded(kernel)
    if any(map(pa.types.is_decimal, kinds)) and all(map(is_exact, kinds)):
        return _decimal(kernel, [_size(sample) for sample in samples])
    return kernel


def _mixed(kernel: Kernel) -> Kernel:
    """An integer and a float compared exactly.

    Arrow's own comparison is exact as far as it goes, to 2^53. Beyond, an integer is a float near
    it and a rest. Rounding never turns an order round, it can only make a tie of it: so where the
    floats differ they decide, and where they do not, the rests do.
    """

    def compared(left: Any, right: Any) -> Any:
        try:
            return kernel(left, right)
        except pa.ArrowInvalid:
            (one, its_rest), (other, others_rest) = _near(left), _near(right)
            by_rest = kernel(its_rest, others_rest)
            return pc.if_else(pc.equal(one, other), by_rest, kernel(one, other))

    return compared


def _near(value: Any) -> tuple[Any, Any]:
    """The float next to each number, and what is left of it."""
    if not pa.types.is_integer(value.type):
        return value, pa.scalar(0, pa.int64())
    near = pc.cast(value, pa.float64(), safe=False)
    below = pc.min_element_wise(near, pa.scalar(_LAST_BEFORE), skip_nulls=False)
    rest = pc.subtract(value, pc.cast(below, pa.int64()))
    # What is rounded to 2^63 is below it, and that is no integer of 64 bits.
    return near, pc.if_else(pc.less(near, _BEYOND_INT64), rest, -1)


def _rounded(kernel: Kernel) -> Kernel:
    def computed(*values: Any) -> Any:
        return kernel(*map(nearest_float, values))

    return computed


def _size(sample: Any) -> tuple[int, int]:
    """How many digits there can be before and after the point; those of a constant are known."""
    kind = sample.type
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    if pa.types.is_null(kind):
        return 1, 0
    if isinstance(sample, pa.Scalar) and sample.is_valid:
        return len(str(abs(sample.as_py()))), 0
    return _digits(kind), 0


def _digits(kind: pa.DataType) -> int:
    """How many digits an integer type has, as Arrow counts."""
    return len(str(2 ** (kind.bit_width - pa.types.is_signed_integer(kind))))


def _decimal(kernel: Kernel, sizes: Sequence[tuple[int, int]]) -> Kernel:
    if kernel is pc.multiply_checked:
        return _product(*sizes)
    whole, places = (max(numbers) for numbers in zip(*sizes, strict=True))
    if kernel in COMPARING:
        if whole + places > MOST_DIGITS:
            raise OverflowError(f"it needs {whole + places} digits, there are {MOST_DIGITS}")
        narrow = whole + places <= pa.decimal128(38).precision
        kind = (pa.decimal128 if narrow else pa.decimal256)(whole + places, places)
    else:
        # A sum can have a digit more.
        kind = pa.decimal256(min(whole + places, MOST_DIGITS - 1), places)
    return lambda left, right: kernel(_cast(left, kind), _cast(right, kind))


def _product(one: tuple[int, int], other: tuple[int, int]) -> Kernel:
    """A product has the places of both factors, and at most the digits of both."""
    places = one[1] + other[1]
    if places > MOST_DIGITS:
        raise OverflowError(f"it has {places} places, there are {MOST_DIGITS} digits")
    right_digits = min(sum(other), max(_FACTOR_DIGITS, MOST_DIGITS - sum(one)))
    left_digits = min(sum(one), MOST_DIGITS - right_digits)
    left_kind = pa.decimal256(left_digits, one[1])
    right_kind = pa.decimal256(right_digits, other[1])
    # Arrow asks for a digit more than a product can have, by types: this says one less and casts
    # no value.
    said = pa.decimal256(min(left_digits, MOST_DIGITS - 1 - right_digits), one[1])

    def multiplied(left: Any, right: Any) -> Any:
        left, right = _cast(left, left_kind), _cast(right, right_kind)
        return pc.multiply_checked(pc.cast(left, said, safe=False), right)

    return multiplied


def _cast(value: Any, kind: Any) -> Any:
    """Exact: what does not fit raises."""
    if pa.types.is_integer(value.type):
        digits = _digits(value.type)
        if kind.precision - kind.scale < digits:  # Arrow goes by the type of a constant
            value = pc.cast(value, pa.decimal256(digits, 0))
    return value if value.type == kind else pc.cast(value, kind)
