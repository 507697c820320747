"""What each mode lets a new version of a table's columns change."""

from typing import get_args

import pyarrow as pa
import pytest

from streamflow.core.compatibility import differences
from streamflow.destinations import COMPATIBILITIES, Compatibility

ID = pa.field("id", pa.int64(), nullable=False)
WHOLE, REAL, TEXT, MONEY = pa.int64(), pa.float64(), pa.string(), pa.decimal128(38, 9)
BACKWARD, FORWARD, ALL, NONE = (
    {"backward"},
    {"forward"},
    {"backward", "forward", "full"},
    set[str](),
)


def optional(kind: pa.DataType) -> pa.Field:
    return pa.field("x", kind)


def required(kind: pa.DataType) -> pa.Field:
    return pa.field("x", kind, nullable=False)


def inside(*fields: pa.Field) -> pa.Field:
    return required(pa.struct(fields))


def items(kind: pa.DataType, *, nullable: bool = True) -> pa.Field:
    return required(pa.list_(pa.field("item", kind, nullable=nullable)))


Y, NEEDED_Y = pa.field("y", TEXT), pa.field("y", TEXT, nullable=False)
CHANGES = [
    ("nothing", required(WHOLE), required(WHOLE), ALL),
    ("an optional field is added", None, optional(WHOLE), ALL),
    ("a required field is added", None, required(WHOLE), FORWARD),
    ("an optional field is dropped", optional(WHOLE), None, ALL),
    ("a required field is dropped", required(WHOLE), None, BACKWARD),
    ("a field may be null now", required(WHOLE), optional(WHOLE), BACKWARD),
    ("a field is never null now", optional(WHOLE), required(WHOLE), FORWARD),
    ("int to Decimal", required(WHOLE), required(MONEY), BACKWARD),
    ("Decimal to int", required(MONEY), required(WHOLE), FORWARD),
    ("int to float: not above 2**53", required(WHOLE), required(REAL), NONE),
    ("int to text", required(WHOLE), required(TEXT), NONE),
    ("bool to int", required(pa.bool_()), required(WHOLE), NONE),
    ("int to bool", required(WHOLE), required(pa.bool_()), NONE),
    ("float to int", required(REAL), required(WHOLE), NONE),
    ("32 bits to 64", required(pa.int32()), required(WHOLE), BACKWARD),
    ("32 bits to float", required(pa.int32()), required(REAL), BACKWARD),
    ("32 bits to a small float", required(pa.int32()), required(pa.float32()), NONE),
    ("a small float to float", required(pa.float32()), required(REAL), BACKWARD),
    ("unsigned to signed of one size", required(pa.uint64()), required(WHOLE), NONE),
    ("unsigned to larger signed", required(pa.uint32()), required(WHOLE), BACKWARD),
    ("signed to larger unsigned", required(pa.int32()), required(pa.uint64()), NONE),
    ("to a Decimal that is too small", required(WHOLE), required(pa.decimal128(20, 2)), NONE),
    ("a larger Decimal", required(pa.decimal128(9, 2)), required(pa.decimal128(12, 3)), BACKWARD),
    ("more places only", required(pa.decimal128(9, 2)), required(pa.decimal128(9, 3)), NONE),
    (
        "more digits, fewer places",
        required(pa.decimal128(9, 2)),
        required(pa.decimal128(19, 1)),
        NONE,
    ),
    ("items are wider", items(WHOLE), items(MONEY), BACKWARD),
    ("items may be null", items(WHOLE, nullable=False), items(WHOLE), BACKWARD),
    ("a list of something else", items(WHOLE), items(TEXT), NONE),
    ("a list instead of one", required(WHOLE), items(WHOLE), NONE),
    ("an optional field inside", inside(ID), inside(ID, Y), ALL),
    ("a required field inside", inside(ID), inside(ID, NEEDED_Y), FORWARD),
    ("a required field inside is dropped", inside(ID, NEEDED_Y), inside(ID), BACKWARD),
    ("fields inside in another order", inside(ID, Y), inside(Y, ID), ALL),
    ("values are wider", required(pa.map_(TEXT, WHOLE)), required(pa.map_(TEXT, MONEY)), BACKWARD),
    ("other keys", required(pa.map_(TEXT, WHOLE)), required(pa.map_(WHOLE, WHOLE)), NONE),
]


@pytest.mark.parametrize(
    ("old", "new", "allowed"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_change_is_allowed_under_these_modes(
    old: pa.Field | None, new: pa.Field | None, allowed: set[str]
) -> None:
    schemas = [pa.schema([ID] if x is None else [ID, x]) for x in (old, new)]
    found = {mode for mode in COMPATIBILITIES if not differences(schemas[0], schemas[1], mode)}
    assert found == {*allowed, "none"}


def test_a_difference_says_what_was_what_is_why_and_what_to_do() -> None:
    old = pa.schema([ID, required(WHOLE), pa.field("client", TEXT, nullable=False)])
    new = pa.schema([ID, required(TEXT), pa.field("customer", TEXT, nullable=False)])
    former = "if 'customer' is the new name of 'client', declare it Annotated[..., "
    former += "formerly('client')]"
    missing = "it is never null, and there are rows without it"
    said = """
        x: was int64, never null, is string, never null: with the new columns not every int64 is a
        string; keep the type, and give the new values a field of another name
        customer: was not there, is string, never null: with the new columns {missing}; let it be
        null (`... | None = None`), or {former}
        client: was string, never null, is not there: with the earlier columns {missing}; keep it,
        or {former}
    """
    found = " ".join(map(str, differences(old, new, "full")))
    assert found.split() == said.format(missing=missing, former=former).split()
    two = pa.schema([*new, pa.field("buyer", TEXT, nullable=False)])
    assert all("formerly" not in str(one) for one in differences(old, two, "full"))


def test_what_is_inside_is_named() -> None:
    old, new = pa.schema([inside(ID)]), pa.schema([inside(ID, NEEDED_Y)])
    [found] = differences(old, new, "backward")
    assert "of its 'y', it is never null, and there are rows without it" in str(found)


@pytest.mark.parametrize("mode", ["backward", "forward", "full"])
def test_a_name_in_other_case_is_no_other_name(mode: Compatibility) -> None:
    old, new = (pa.schema([ID, pa.field(name, TEXT)]) for name in ("shop", "Shop"))
    [found] = differences(old, new, mode)
    assert "as DuckDB and Spark, take it for 'shop'" in str(found)
    both = pa.schema([*old, pa.field("Shop", TEXT)])
    assert differences(both, both, mode) == []
    assert differences(old, new, "none") == []


def test_the_modes_are_those_that_can_be_declared() -> None:
    assert get_args(Compatibility) == COMPATIBILITIES
