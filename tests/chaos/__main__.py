"""`make chaos MINUTES=10`: workers are killed, frozen, stopped and joined by others all the time.

Between them and the broker connections are cut, slow and refused, the end of transactions is lost
or late, and the broker itself is killed and started again. With `--nodes 3` it is a cluster, of
which those nodes are killed that lead the group or transactions. Some of the workers are static
members. With `--standbys 1` each task's state is kept warm by another worker, which takes it over.

At the end the input is finished, and everything that came out is compared with what the log of the
source says has to come out. Ends with 1 when a row is missing, is there twice, or a worker gave up
or did not end; everything that happened is repeated by `--seed`, but for its exact moments.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from streamflow.core.names import Names
from tests.chaos.brokers import Breakable, Nodes, OneBroker
from tests.chaos.feed import Feed
from tests.chaos.monkey import Monkey
from tests.chaos.network import Network
from tests.chaos.proxy import proxied
from tests.chaos.rig import Rig, rig
from tests.chaos.verdict import Verdict

PARTITIONS = 6


async def run(broker: Breakable, app: str, folder: Path, minutes: float, seed: int) -> int:
    """One run; returns the exit code."""
    rng = random.Random(seed)
    async with (
        proxied(*broker.ports) as proxy,
        rig(
            broker.bootstrap,
            app,
            folder,
            partitions=PARTITIONS,
            seed=seed,
            through=proxy.bootstrap,
        ) as under_trouble,
    ):
        monkey = Monkey(rng, under_trouble, Network(rng, proxy, broker))
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(monkey.run(over))
            group.create_task(tell(under_trouble.feed, monkey, over))
            await asyncio.sleep(minutes * 60)
            over.set()
        return report(await under_trouble.verdict(), under_trouble, monkey)


async def tell(feed: Feed, monkey: Monkey, over: asyncio.Event) -> None:
    """A line now and then."""
    while not over.is_set():
        killed = monkey.done["killed"]
        say(f"{feed.sent:,} sent, {feed.behind:,} behind, {killed} killed, {dict(monkey.done)}")
        try:
            await asyncio.wait_for(over.wait(), 15)
        except TimeoutError:
            continue


def report(verdict: Verdict, under_trouble: Rig, monkey: Monkey) -> int:
    """Say how it went."""
    fleet, lost = under_trouble.fleet, under_trouble.fleet.lost()
    unknown = lost.pop("commit", 0)
    fenced = lost.pop("fenced", 0)
    took = under_trouble.feed.recoveries or [0.0]
    say(f"acts: {dict(monkey.done)}; workers started: {len(fleet.workers)}")
    say(f"commits {verdict.commits:,}, aborted {lost.total()}, fenced {fenced}, unknown {unknown}")
    say(f"records {verdict.records:,}; rows {verdict.rows}")
    say(f"recovery: median {statistics.median(took):.1f} s, longest {max(took):.1f} s")
    say(f"longest time without a commit: {under_trouble.feed.longest_stall:.1f} s")
    for line in (*verdict.examples(), *monkey.failures):
        say(line)
    say(f"killed {monkey.done['killed']}, lost {verdict.lost}, duplicated {verdict.twice}")
    return int(bool(verdict.lost or verdict.twice or monkey.failures))


def say(line: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--nodes", type=int, default=1, help="brokers: 1, or a cluster of 3")
    parser.add_argument("--standbys", type=int, default=0, help="workers that keep a task's state")
    parser.add_argument("--keep", type=Path, help="keep logs, state and tables in this folder")
    given = parser.parse_args()
    more = f" --nodes {given.nodes}" if given.nodes > 1 else ""
    if given.standbys:
        more += f" --standbys {given.standbys}"
        os.environ["STREAMFLOW_STANDBY_REPLICAS"] = str(given.standbys)  # for every worker
    say(f"{given.minutes:g} minutes; repeat it with --seed {given.seed}{more}")
    app = f"chaos-{given.seed}"
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        broker = brokers(given.nodes, Path(made) / "broker", app, given.seed)
        stack.callback(broker.close)
        return asyncio.run(run(broker, app, folder, given.minutes, given.seed))


def brokers(nodes: int, folder: Path, app: str, seed: int) -> Breakable:
    """What the workers connect to."""
    if nodes == 1:
        return OneBroker(folder, say)
    names = Names(app, f"{app}.")
    return Nodes(nodes, folder, names, PARTITIONS, random.Random(seed), say)


if __name__ == "__main__":
    sys.exit(main())
