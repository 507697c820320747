"""Would the tables that stand take what a topology writes?

They are read, and nothing is written: a pipeline that deploys asks this before any worker starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamflow.check.finding import Finding
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import Foreseen
from streamflow.engine.chain import chain_of
from streamflow.engine.settings import Settings
from streamflow.engine.table_spec import table_spec
from streamflow.errors import SettingsError, SinkRefused, SinkUnavailable
from streamflow.store_url import DELTA, located
from streamflow.table_files import open_table
from streamflow.topology import Topology

FIX = "mend it before it is deployed: a worker refuses to start with these words"


@dataclass(frozen=True, slots=True)
class CheckedTable:
    """What was found of the table at a path; it is `away` where it could not be read."""

    path: str
    finding: Finding
    is_away: bool = False


def check_tables(topology: Topology, settings: Settings) -> list[CheckedTable]:
    """Hold each table's columns and folders against what its sink writes, and see whose it is."""
    names = settings.names(topology.name)
    specs = (table_spec(topology, names, sink) for sink in topology.tables)
    return [found for spec in specs for found in _check(spec, names.app, settings)]


def _check(spec: SinkSpec, app: str, settings: Settings) -> Iterator[CheckedTable]:
    path = spec.path.removeprefix(DELTA)
    try:
        table = open_table(settings, spec.path)
    except SettingsError:  # a library or a variable is missing, which others say
        return
    try:
        seen = chain_of(table).foresee(spec, app)
    except SinkRefused as error:
        yield CheckedTable(path, Finding.problem("table", str(error), FIX))
    except SinkUnavailable as error:
        words = f"table {path!r} cannot be read: {error}"
        fix = "let this user read it, or check where its workers run"
        yield CheckedTable(path, Finding.problem("table", words, fix), is_away=True)
    else:
        yield CheckedTable(path, Finding.ok("table", in_words(path, settings.lake, seen)))


def in_words(path: str, lake: str, seen: Foreseen) -> str:
    """What a worker would find of a table, and change in it."""
    name = f"table {path!r}"
    if not seen.stands:
        where = "" if located(lake, path) else f" in {lake!r}"
        return f"{name} does not stand yet{where}: a worker makes it"
    what = f"{name} {'gets' if seen.is_new else 'has'} these columns as version {seen.version}"
    if not seen.changes:
        return what
    since = "" if seen.is_new else "; against its newest"
    return f"{what}{since}: {'; '.join(seen.changes)}"
