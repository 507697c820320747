"""Sensitive fields: what leaves instead of them on every way out, and what is refused."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel, Field, field_validator

from streamflow import (
    Collect,
    Count,
    Distinct,
    Last,
    Rule,
    Topology,
    TopologyError,
    Tumbling,
    cleared,
    hashed,
    masked,
    parquet,
    source,
    topic,
    withheld,
)
from streamflow.batch import Record
from streamflow.check import check_key
from streamflow.core.masking import Masks
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError, StateRefused
from streamflow.local import LocalRun
from streamflow.schema import arrow_schema
from streamflow.sensitive import ways_of
from streamflow.testing import TopologyDriver
from streamflow.testing.driver import MASKING_KEY

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MASKS = Masks(MASKING_KEY)
Email = Annotated[str, hashed()]


class Address(BaseModel):
    street: str


class Order(BaseModel):
    email: Email
    phone: Annotated[str | None, masked(shown=3)] = None
    notes: Annotated[list[str] | None, withheld()] = None
    address: Annotated[Address | None, withheld()] = None
    cents: int = Field(ge=0)
    at: AwareDatetime


class PerEmail(BaseModel):
    email: Email
    window_start: AwareDatetime
    orders: int
    phones: int
    newest: Annotated[str | None, masked()]


orders = source(topic("orders"), Order, key="email", event_time="at")
ANNA = MASKS.text(hashed(), "anna@example.org")
SECRETS = ("anna", "55512345", "gate code", "Main St", "hidden")


def order(**given: Any) -> dict[str, Any]:
    return {
        "email": "anna@example.org",
        "phone": "55512345",
        "notes": ["gate code 77"],
        "address": {"street": "Main St"},
        "cents": 5,
        "at": NOW,
        **given,
    }


def sent(driver: TopologyDriver, name: str) -> bytes:
    """All that a topic was given: keys, values and headers."""
    return b"\n".join(
        (record.key or b"") + b" " + (record.value or b"") + b" " + repr(record.headers).encode()
        for record in driver.records(name)
    )


def driver_of(*edges: Any) -> TopologyDriver:
    return TopologyDriver(Topology("shop", *edges), NOW)


def test_rows_of_a_table_are_masked_and_files_say_how() -> None:
    driver = driver_of(orders.to(parquet("orders")), orders.rejected.to(topic("dlq")))
    driver.send("orders", order(), order(email="bob@example.org", phone=None, notes=None))
    driver.end_of_input()
    (table,) = driver.tables("orders")
    assert table.select(["email", "phone", "notes", "address", "cents"]).to_pylist() == [
        {"email": ANNA, "phone": "****345", "notes": None, "address": None, "cents": 5},
        {
            "email": MASKS.text(hashed(), "bob@example.org"),
            "phone": None,
            "notes": None,
            "address": None,
            "cents": 5,
        },
    ]
    assert {f.name: (f.metadata or {}).get(b"sensitive") for f in table.schema}["phone"] == (
        b"masked:3"
    )


def test_a_topic_gets_masked_rows_under_masked_keys() -> None:
    driver = driver_of(orders.to(topic("out")), orders.rejected.to(topic("dlq")))
    driver.send("orders", order(undeclared="hidden"))
    (record,) = driver.records("out")
    assert record.key == (ANNA or "").encode()
    assert orjson.loads(record.value or b"") == {
        "email": ANNA,
        "phone": "****345",
        "notes": None,
        "address": None,
        "cents": 5,
        "at": "2026-01-01T12:00:00Z",
    }
    assert dict(record.headers)["streamflow.masked"] == b"address,email,notes,phone"
    assert not any(secret.encode() in sent(driver, "out") for secret in SECRETS)


@pytest.mark.parametrize(
    ("value", "expected", "masked_fields"),
    [
        (
            {"email": "anna@example.org", "cents": -1, "phone": "55512345", "extra": "hidden"},
            {"email": ANNA, "cents": -1, "phone": "****345"},
            b"email,phone",
        ),
        # What is of another type than the field is withheld: nobody knows what it is.
        ({"email": {"is": "anna"}, "cents": 1}, {"email": None, "cents": 1}, b"email"),
        (b"anna@example.org,5", None, b"*"),
        (b'["anna@example.org"]', None, b"*"),
        (b'{"email": "anna', None, b"*"),
    ],
)
def test_a_dead_letter_says_what_is_wrong_and_nothing_sensitive(
    value: dict[str, Any] | bytes, expected: Any, masked_fields: bytes
) -> None:
    driver = driver_of(orders.drop(), orders.rejected.to(topic("dlq")))
    made = value if isinstance(value, bytes) else orjson.dumps(value)
    driver.send("orders", Record(b"anna@example.org", made))
    (letter,) = driver.records("dlq")
    assert (None if letter.value is None else orjson.loads(letter.value)) == expected
    headers = dict(letter.headers)
    assert headers["streamflow.masked"] == masked_fields
    assert headers["__connect.errors.offset"] == b"0"
    assert not any(secret.encode() in sent(driver, "dlq") for secret in SECRETS)


def test_words_of_a_user_s_function_are_withheld() -> None:
    def raising(rows: Any) -> Any:
        if rows.num_rows:
            raise ValueError(f"{rows['email'].to_pylist()} of {rows['phone'].to_pylist()}")
        return rows["cents"].is_null()

    failing = orders.filter(raising)
    driver = driver_of(failing.to(topic("out")), failing.rejected.to(topic("dlq")))
    driver.send("orders", order())
    message = dict(driver.records("dlq")[0].headers)["__connect.errors.exception.message"]
    assert message == b"ValueError (its words are withheld: they may be sensitive)"
    assert not any(secret.encode() in sent(driver, "dlq") for secret in SECRETS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cents": -1}, "Input should be greater than or equal to 0"),
        (
            {"cents": "x" * 30},
            "Input should be a valid integer, unable to parse string as an integ",
        ),
        ({"picked": "hidden"}, "invalid (its words are withheld: they may be sensitive)"),
        ({"at": "hidden"}, "Input should be a valid datetime"),
    ],
)
def test_of_what_a_model_refuses_pydantic_s_own_words_are_said(
    given: dict[str, Any], expected: str
) -> None:
    class Picky(Order):
        picked: str = "fine"

        @field_validator("picked")
        @classmethod
        def _picky(cls, picked: str) -> str:
            if picked != "fine":
                raise ValueError(f"{picked} is not fine")
            return picked

    picky = source(topic("orders"), Picky, key="email", event_time="at")
    driver = driver_of(picky.drop(), picky.rejected.to(topic("dlq")))
    driver.send("orders", order(**given))
    headers = dict(driver.records("dlq")[0].headers)
    message = (headers["__connect.errors.exception.message"] or b"").decode()
    assert message.startswith(expected)
    assert "hidden" not in message


def test_a_worker_that_halts_says_no_words_of_a_function() -> None:
    def raising(rows: Any) -> Any:
        if rows.num_rows:
            raise ValueError(f"{rows['email'].to_pylist()}")
        return rows["cents"].is_null()

    failing = orders.filter(raising, on_error="halt")
    driver = driver_of(failing.to(topic("out")), failing.rejected.to(topic("dlq")))
    with pytest.raises(StateRefused, match=r"orders\[0\]@0: .*: ValueError \(its words") as told:
        driver.send("orders", order())
    assert "anna" not in str(told.value)


def test_a_key_that_is_not_the_record_s_is_not_said() -> None:
    driver = driver_of(orders.drop(), orders.rejected.to(topic("dlq")))
    driver.send("orders", Record(b"hidden@example.org", orjson.dumps(order())))
    (letter,) = driver.records("dlq")
    headers = dict(letter.headers)
    assert headers["streamflow.reason"] == b"wrong-key"
    assert headers["__connect.errors.exception.message"] == (
        b"wrong-key (its words are withheld: they may be sensitive)"
    )
    assert letter.key == (MASKS.text(hashed(), "hidden@example.org") or "").encode()
    assert not any(secret.encode() in sent(driver, "dlq") for secret in SECRETS)


def test_rules_see_what_values_are_and_windows_group_by_them() -> None:
    passed = orders.gate(Rule("mail", "email LIKE '%@example.org'"))
    counts = passed.window(Tumbling(HOUR), by="email", grace=timedelta(0)).aggregate(
        PerEmail, orders=Count(), phones=Distinct("phone"), newest=Last("phone")
    )
    driver = driver_of(
        counts.to(topic("counts")),
        counts.to(parquet("counts")),
        counts.late.to(topic("late")),
        passed.rejected.to(topic("dlq")),
    )
    driver.send(
        "orders",
        order(),
        order(phone="55599999"),
        order(email="anna@elsewhere.org"),
        order(at=NOW + 2 * HOUR),
        order(),
    )
    driver.end_of_input()
    first = driver.records("counts")[0]
    assert orjson.loads(first.key or b"")[0] == ANNA
    row = orjson.loads(first.value or b"")
    assert (row["email"], row["orders"], row["phones"], row["newest"]) == (ANNA, 2, 2, "****9999")
    assert [row["email"] for row in driver.files("counts")][:2] == [ANNA, ANNA]
    assert [orjson.loads(r.value or b"")["phone"] for r in driver.records("late")] == ["****345"]
    for name in ("counts", "late", "dlq"):
        assert driver.records(name), name
        assert not any(secret.encode() in sent(driver, name) for secret in SECRETS)


def test_what_stages_drop_to_a_side_is_masked() -> None:
    once = orders.dedup("email", within=HOUR)
    driver = driver_of(
        once.to(topic("out")), once.duplicates.to(topic("twice")), once.rejected.drop()
    )
    driver.send("orders", order(), order())
    assert len(driver.records("twice")) == 1
    assert not any(secret.encode() in sent(driver, "twice") for secret in SECRETS)


def test_a_field_that_is_made_of_a_sensitive_one_may_leave_where_that_is_said() -> None:
    class Known(BaseModel):
        reachable: Annotated[bool | None, cleared("whether there is a number, not which")]
        email: Annotated[str, cleared("the table is for the people who answer mails")]

    known = orders.map(Known, reachable="phone IS NOT NULL")
    driver = driver_of(known.to(parquet("known")), orders.rejected.drop())
    driver.send("orders", order())
    driver.end_of_input()
    assert driver.files("known") == [{"reachable": True, "email": "anna@example.org"}]


@pytest.mark.parametrize(
    ("mark", "value", "expected"),
    [
        (masked(shown=4), "1234567", "****"),
        (masked(shown=4), "12345678", "****5678"),
        (masked(shown=0), "12345678", "****"),
        (masked(), "", "****"),
        (withheld(), "x", None),
    ],
)
def test_masks(mark: Any, value: str, expected: str | None) -> None:
    assert MASKS.text(mark, value) == expected


def test_hashes_are_the_same_everywhere_and_others_with_another_key() -> None:
    hashes = {Masks(key).text(hashed(), "anna") for key in (b"k" * 16, b"k" * 16, b"l" * 16)}
    assert len(hashes) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one or "") for one in hashes)


def test_marks_of_optional_fields_and_of_aliases_of_types_count() -> None:
    class Two(BaseModel):
        one: Email | None
        two: Annotated[Email | None, Field(max_length=99)]

    assert {name: mark.way for name, mark in ways_of(arrow_schema(Two)).items()} == {
        "one": "hashed",
        "two": "hashed",
    }


def model(**fields: Any) -> Callable[[], Any]:
    return lambda: arrow_schema(type("M", (BaseModel,), {"__annotations__": fields}))


class Inner(BaseModel):
    name: Annotated[str, hashed()]


class Bare(BaseModel):
    email: str


class Counted(BaseModel):
    email: Annotated[str, masked()]
    window_start: AwareDatetime
    n: int


class Collected(BaseModel):
    email: Email
    window_start: AwareDatetime
    phones: list[str]


class HiddenKey(BaseModel):
    key: Annotated[str, masked()]
    at: AwareDatetime


def window_of(model: type[BaseModel], **aggregates: Any) -> Any:
    windowed = orders.window(Tumbling(HOUR), by="email", grace=HOUR)
    results = windowed.aggregate(model, **aggregates)
    return Topology("t", results.to(topic("x")), results.late.drop(), orders.rejected.drop())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (model(n=Annotated[int, hashed()]), "M.n: hashed() is for text, and this is int64"),
        (model(n=Annotated[str, withheld()]), "withheld() makes null of it; declare it | None"),
        (model(n=Annotated[str, hashed(), masked()]), "marked hashed() and masked(shown=4)"),
        (model(n=list[Email]), "a mark is for a whole field"),
        (model(n=dict[str, Email] | None), "a mark is for a whole field"),
        (model(n=Inner), "M.n.name: formerly(...) and marks of sensitive fields are for fields"),
        (lambda: masked(shown=9), "shown is 0 to 8, not 9"),
        (lambda: cleared(" "), "say why"),
        (
            lambda: Topology("t", orders.map(Bare).drop(), orders.rejected.drop()),
            "Bare.email is made of 'email', which is sensitive, and is not marked",
        ),
        (
            lambda: Topology(
                "t", orders.map(Bare, email="lower(phone)").drop(), orders.rejected.drop()
            ),
            "Bare.email is made of 'phone', which is sensitive",
        ),
        (lambda: window_of(Counted, n=Count()), "is a group of"),
        (
            lambda: window_of(Collected, phones=Collect("phone", limit=3)),
            "Collected.phones, Collect() is made of 'phone', which is sensitive",
        ),
        (
            lambda: Topology(
                "t",
                source(topic("x"), HiddenKey, key="key", event_time="at").drop(),
            ),
            "HiddenKey.key is the key of 'x' and marked masked(shown=4)",
        ),
    ],
)
def test_it_is_refused_in_words(build: Callable[[], Any], expected: str) -> None:
    with pytest.raises(TopologyError, match=re.escape(expected)):
        build()


def test_without_a_key_nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STREAMFLOW_MASKING_KEY", raising=False)
    topology = Topology("shop", orders.drop(), orders.rejected.to(topic("dlq")))
    with pytest.raises(SettingsError, match=r"field 'email' is sensitive.*STREAMFLOW_MASKING_KEY"):
        topology.faust_app()
    with pytest.raises(SettingsError, match="there is no key to mask it with"):
        LocalRun(topology, tmp_path / "run")
    assert [found.level for found in check_key(topology, Settings.load())] == ["problem"]
    monkeypatch.setenv("STREAMFLOW_MASKING_KEY", "too short to tell")
    assert Settings.load().masks == Masks(b"too short to tell")
    assert "too short" not in repr(Settings.load())
    assert [found.level for found in check_key(topology, Settings.load())] == ["ok"]
    monkeypatch.setenv("STREAMFLOW_MASKING_KEY", "short")
    with pytest.raises(SettingsError, match="STREAMFLOW_MASKING_KEY: a key is a secret of 16"):
        Settings.load()
