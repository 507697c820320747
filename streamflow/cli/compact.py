"""`streamflow compact`: few large files for the many small ones of a plain table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import click
import orjson

from streamflow.cli.environment import warn_of_unknown_variables
from streamflow.cli.on_broker import run_on_broker
from streamflow.clock import SystemClock
from streamflow.compacting import compactor, holder, owner_of, plain_table, refuse_workers
from streamflow.core.compaction import Compaction, Pack
from streamflow.counted import counted
from streamflow.engine.lease import lease
from streamflow.engine.roll_memory import RollMemory
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError

MIB = 1024 * 1024
TARGET_MIB = 128
VACUUM_DAYS = 7
EPILOG = """\b
Examples:
    streamflow compact flights --lake lake --dry-run
    streamflow compact flights --lake lake --broker 127.0.0.1:9092
    streamflow compact flights --lake lake --vacuum
    streamflow compact s3://bucket/lake/flights --broker 127.0.0.1:9092

TABLE is the table's path below the lake, or its address in an object store. While it runs, readers
may see rows of the files that are being joined twice, and miss none: let them wait until it has
ended. In a store a query that runs meanwhile may end with an error; it is asked again. Broken off
at any moment, the command is run again, and ends with the same rows."""


@click.command(epilog=EPILOG)
@click.argument("table")
@click.option("--lake", help="Folder below which tables lie, or an address: s3://bucket/lake.")
@click.option("--broker", help="Kafka's bootstrap servers; asked whether workers run.")
@click.option("--no-broker", is_flag=True, help="Ask nobody: you know that no worker runs.")
@click.option(
    "--target-mib",
    type=click.IntRange(1),
    help=f"Files of up to half of this are joined to files of up to this.  [default: {TARGET_MIB}]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be joined, and do nothing.")
@click.option("--vacuum", is_flag=True, help="Delete files that were emptied long ago, no more.")
@click.option(
    "--older-than-days",
    type=click.IntRange(1),
    help=f"How long ago, for --vacuum.  [default: {VACUUM_DAYS}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on stdout.")
def command(
    table: str,
    no_broker: bool,
    target_mib: int | None,
    dry_run: bool,
    vacuum: bool,
    older_than_days: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Make few large files of the many small ones of a plain TABLE, offline."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    warn_of_unknown_variables()
    settings = Settings.load(**given)
    if vacuum and (dry_run or target_mib is not None):
        option = "--dry-run" if dry_run else "--target-mib"
        raise SettingsError(f"{option} is of joining files; leave {option} or --vacuum out")
    if older_than_days is not None and not vacuum:
        raise SettingsError("--older-than-days is of --vacuum: give that too, or leave both out")
    if no_broker and given["broker"] is not None:
        raise SettingsError("--no-broker asks nobody; leave --broker or --no-broker out")
    target_bytes = (target_mib or TARGET_MIB) * MIB
    files = plain_table(settings, table)

    def tell(pack: Pack, left: int) -> None:
        line = f"{pack.name}: {_made_of(pack)}; {left:,} to go"
        click.echo(line, err=True)

    work = compactor(files, tell, memory=RollMemory(settings.roll_memory))
    if dry_run:
        begun = work.unfinished()
        plans = [*begun, *([] if begun else [work.next(target_bytes)])]
        _say(table, plans, as_json=as_json, dry_run=True)
        return
    app = owner_of(files)
    if not no_broker:
        run_on_broker(settings, lambda: refuse_workers(settings, app))
    with lease(files, holder(), SystemClock()):
        if vacuum:
            days = timedelta(days=older_than_days or VACUUM_DAYS)
            gone = work.vacuum(days // timedelta(milliseconds=1))
            words = f"{table}: {counted(len(gone), 'file')} without rows deleted"
            click.echo(orjson.dumps({"table": table, "deleted": gone}) if as_json else words)
            return
        done = work.run(target_bytes, before=_warning(table))
        _say(table, done, as_json=as_json, dry_run=False)


def _warning(table: str) -> Callable[[Compaction], None]:
    """Says, before the first change, what readers may see from now on."""
    warned = False

    def before(plan: Compaction) -> None:
        nonlocal warned
        if plan.packs and not warned:
            click.echo(f"{table}: readers may see rows twice until this has ended", err=True)
            warned = True

    return before


def _made_of(pack: Pack) -> str:
    return f"{counted(pack.rows, 'row')} of {counted(len(pack.of), 'file')}"


def _say(table: str, plans: Sequence[Compaction], *, as_json: bool, dry_run: bool) -> None:
    packs = [pack for plan in plans for pack in plan.packs]
    before, rows = sum(len(pack.of) for pack in packs), sum(pack.rows for pack in packs)
    if as_json:
        joined = [
            {"file": p.name, "rows": p.rows, "of": [source.name for source in p.of]} for p in packs
        ]
        found = {"table": table, "dry_run": dry_run, "rows": rows, "joined": joined}
        click.echo(orjson.dumps(found))
        return
    if dry_run:
        for pack in packs:
            click.echo(f"{pack.name}: {_made_of(pack)}")
    verb = "would become" if dry_run else "are"
    click.echo(
        f"{table}: {counted(before, 'file')} {verb} {len(packs):,}, with {counted(rows, 'row')}"
        if packs
        else f"{table}: there is nothing to join"
    )
