"""Finding the topology that a command line names."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamflow.cli.load import load_topology
from streamflow.errors import SettingsError, TopologyError

GOOD = """
from __future__ import annotations
from pydantic import AwareDatetime, BaseModel
from streamflow import Topology, source, topic

class Order(BaseModel):
    customer: str
    at: AwareDatetime

orders = source(topic("orders"), Order, key="customer", event_time="at")
topology = Topology("orders", orders.to(topic("good")), orders.rejected.drop())
"""


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        del sys.modules[name]


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_module_in_the_current_folder_is_found_without_installing_it() -> None:
    write("shop/orders.py", GOOD)
    assert load_topology("shop.orders").name == "orders"


def test_a_file_can_import_what_lies_beside_it() -> None:
    write("elsewhere/shared.py", "NAME = 'mine'")
    text = "from shared import NAME\n" + GOOD.replace("from __future__ import annotations", "")
    write("elsewhere/orders.py", text.replace('Topology("orders"', "Topology(NAME"))
    assert load_topology("elsewhere/orders.py").name == "mine"


def test_another_attribute_is_named_after_a_colon() -> None:
    write("orders.py", GOOD.replace("topology = ", "second = "))
    assert load_topology("orders:second").name == "orders"
    with pytest.raises(SettingsError, match=r"orders has no 'topology'; .* \['second'\]"):
        load_topology("orders")


def test_what_is_no_topology_is_refused_with_its_type() -> None:
    write("orders.py", GOOD)
    with pytest.raises(SettingsError, match=r"orders:orders is of type Stream, not Topology"):
        load_topology("orders:orders")


def test_a_missing_module_names_the_folder_that_was_searched(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"no module 'shop'; searched {tmp_path} "):
        load_topology("shop.orders")
    with pytest.raises(SettingsError, match=r"no file 'shop/orders\.py' in "):
        load_topology("shop/orders.py")
    with pytest.raises(SettingsError, match="'a-b' is no topology; name a module such as"):
        load_topology("a-b")


@pytest.mark.parametrize("target", ["broken", "broken.py"])
def test_an_import_that_fails_is_one_line_with_file_and_line(target: str) -> None:
    write("deeper.py", "import json\njson.loads('nonsense')\n")
    write("broken.py", "\nimport deeper\n")
    with pytest.raises(TopologyError, match=r"deeper\.py:2: JSONDecodeError: Expecting") as caught:
        load_topology(target)
    assert "\n" not in str(caught.value)


def test_a_package_that_is_not_installed_is_not_taken_for_the_topology() -> None:
    write("orders.py", "import nothing_of_this_name\n")
    with pytest.raises(TopologyError, match=r"orders\.py:1: ModuleNotFoundError: .*nothing_of_"):
        load_topology("orders")


def test_a_syntax_error_names_its_line() -> None:
    write("orders.py", "\n\nthis is no Python\n")
    with pytest.raises(TopologyError, match=r"orders\.py:3: SyntaxError: invalid syntax"):
        load_topology("orders")


def test_a_topology_that_does_not_build_says_so_in_its_own_words() -> None:
    write("orders.py", GOOD.replace(", orders.rejected.drop()", ""))
    with pytest.raises(TopologyError, match="the rejected side of 'orders' goes nowhere"):
        load_topology("orders")
