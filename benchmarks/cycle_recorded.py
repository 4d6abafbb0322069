"""The coordinator's part of the life of small units, loaded by hosts that replay recorded deltas.

The project is that of `cycle`. Its deltas are those of real training, recorded before; proven hosts
send them back as fast as the coordinator takes them, each report together with the request for the
next unit, and a trusted host evaluates every version. `pleb-coordinator serve` runs as its
operator would run it; a load process plays all hosts.

    python -m benchmarks.cycle_recorded PLAN.json

is that load process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from benchmarks.cycle import MODEL, PROJECT, UNITS_PER_ROUND
from benchmarks.dispatch import line, moved, served, started
from benchmarks.dispatch_fleet import Group, LoadHost, hosts_of
from benchmarks.dispatch_load import Connection, loop_factory, report_of
from benchmarks.dispatch_store import add_proven_hosts
from benchmarks.in_process import train_in_rounds
from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.home.config import store_place
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.store.transaction import Store
from pleb_project.check.draft import make_draft
from pleb_project.definition.load import load_definition
from pleb_project.processes import project_command, run_json
from pleb_project.readers.blobs import BlobFolder
from pleb_shared.protocol.messages import PayloadType, ReceiptOutcome, Role, WorkReply
from pleb_shared.protocol.report import EvaluationResult, Report
from pleb_shared.protocol.signing import peek_payload
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.packing import pack

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from pleb_shared.protocol.manifest import Manifest
    from pleb_shared.protocol.unit import Unit

PROJECTS: Final = 4
"""While the version of one is made, hosts of the others work."""
HOSTS: Final = UNITS_PER_ROUND
"""Of each project, and one that is trusted."""
NAMES: Final = [f"cycle-{number}" for number in range(PROJECTS)]
RECORDED_ROUNDS: Final = 20
"""Deltas come again after so many rounds: equal ones among the newest would be suspicious."""
WAIT_SECONDS: Final = 5.0
_UNPACED: Final = "[verification]\npace = 0\n"  # these hosts compute nothing
_TRUST: Final = "UPDATE hosts SET role = 'trusted' WHERE id = ?"
_REPLY: Final = msgspec.json.Decoder(WorkReply)


class RecordedPlan(msgspec.Struct, frozen=True):
    """What the load process is to do."""

    url: str
    hosts: list[Group]
    deltas: list[bytes]
    """Units take the next one each; all hosts of a unit send the same."""


def main(quick: bool, store: str) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pleb-recorded-")))
        home = Home(folder / "home")
        sources = [write_project(folder / name, name) for name in NAMES]
        deltas = record(sources[0], folder / "blobs", rounds=RECORDED_ROUNDS)
        hosts = set_up(home, sources)
        if store != "sqlite":
            moved(home, stack, store)
        with served(home) as running:
            plan = folder / "plan.json"
            plan.write_bytes(msgspec.json.encode(RecordedPlan(running.url, hosts, deltas)))
            with started(["-m", "benchmarks.cycle_recorded", str(plan)]) as load:
                assert load.stdout is not None
                line(load.stdout)
                time.sleep(3 if quick else 10)
                before, cpu, start = counts(home), running.cpu_seconds(), time.monotonic()
                time.sleep(15 if quick else 120)
                after, wall = counts(home), time.monotonic() - start
                used = {name: now - cpu[name] for name, now in running.cpu_seconds().items()}
                require_running(load)
    units = after["verified"] - before["verified"]
    by_process = {name: 1000 * seconds / units for name, seconds in used.items()}
    return {
        "units_per_s": units / wall,
        "coordinator_cpu_ms_per_unit": sum(by_process.values()),
        "wall_ms_per_unit": 1000 * wall / units,
        "recorded": True,
        "store": store,
        "units": units,
        "versions": after["version"] - before["version"],
        "units_per_round": UNITS_PER_ROUND,
        "projects": PROJECTS,
        "hosts": PROJECTS * (HOSTS + 1),
        "recorded_deltas": len(deltas),
        "by_process": by_process,
    }


def write_project(folder: Path, name: str) -> Path:
    """Write the project of `cycle` under another name; return its folder."""
    folder.mkdir()
    text = PROJECT.replace('name = "cycle"', f'name = "{name}"') + _UNPACED
    (folder / "project.toml").write_text(text, encoding="utf-8")
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    return folder


def record(source: Path, folder: Path, rounds: int) -> list[bytes]:
    """Return the deltas of the project's first units, in the order of their shards."""
    blobs = BlobFolder(folder)
    draft = make_draft(load_definition(source), blobs)
    training = msgspec.structs.replace(draft.metadata.training, versions=rounds)
    metadata = msgspec.structs.replace(draft.metadata, training=training)
    short = type(draft)(
        draft.definition, draft.dataset, draft.exported, metadata, draft.predicted_memory_bytes
    )
    found: list[bytes] = []

    def keep(_: int, deltas: list[tuple[bytes, float]], __: object) -> list[tuple[bytes, float]]:
        found.extend(delta for delta, _ in deltas)
        return deltas

    train_in_rounds(short, blobs, arrived=keep)
    return found


def set_up(home: Home, sources: Sequence[Path]) -> list[Group]:
    """Publish projects at a new coordinator and let their hosts have a past; return them."""
    config = make_home(home, own_networks=["127.0.0.0/8"])  # else all hosts are one voice
    deps = deps_of(home, time.time, config)  # noqa: TID251 - a composition root
    groups, first = [], 1
    with closing(Store(home.store_file)) as store, served(home) as running:
        for source in sources:
            with store.write() as tx:
                invite = new_invite(tx, deps, Role.PUBLISHER, lifetime_seconds=600)
            place = ("--home", str(home.path.parent / "researcher"), "--json")
            command = ("publish", str(source), "--to", running.url, "--invite", invite)
            run_json("publish", project_command(*command, "--no-passphrase", *place))
            with store.read() as tx:
                project = tx.projects.find(source.name)
            count = HOSTS + 1
            add_proven_hosts(store, deps, home.store_file, project, first=first, count=count)
            with closing(sqlite3.connect(home.store_file, isolation_level=None)) as db:
                db.execute(_TRUST, (first + HOSTS,))
            groups.append(Group(project.name, first, [[] for _ in range(count)]))
            first += count
    return groups


def counts(home: Home) -> dict[str, int]:
    """Return how far all projects are together."""
    with closing(Store(store_place(home))) as store, store.read() as tx:
        projects = [tx.projects.find(name) for name in NAMES]
        verified = sum(tx.hosts.alarm(project.id).counted for project in projects)
    return {"verified": verified, "version": sum(project.version for project in projects)}


def require_running(load: subprocess.Popen[str]) -> None:
    """Raise unless the load process is still at work."""
    if load.poll() is not None:
        raise RuntimeError("The load process ended too early; see above.")


class Recorded:
    """What hosts compute: recorded deltas, one after the other."""

    def __init__(self, deltas: Sequence[bytes]) -> None:
        self._left = cycle(deltas)
        self._by_seed: dict[int, bytes] = {}

    def of_unit(self, unit: Unit) -> bytes:
        """Return the unit's delta: all its hosts get the same."""
        if unit.seed not in self._by_seed:
            self._by_seed[unit.seed] = next(self._left)
        return self._by_seed[unit.seed]


async def play(host: LoadHost, connection: Connection, deltas: Recorded) -> None:
    """Ask, report and ask again, for ever."""
    reports: list[Report] = []
    attached: list[bytes] = []
    while True:
        asked = time.monotonic()
        now = int(time.time())  # noqa: TID251 - a real client's clock
        body = host.request(now, 1, reports, WAIT_SECONDS)
        answer = await connection.exchange(host.path, b"\n".join([body, *attached]))
        said = _REPLY.decode(peek_payload(answer, PayloadType.WORK_REPLY))
        for receipt in said.receipts:
            if receipt.outcome not in {ReceiptOutcome.STORED, ReceiptOutcome.UNNEEDED}:
                raise ValueError(receipt.message)
        reports, attached = [], []
        for manifest in said.manifests:
            report, packed = result_of(manifest, deltas, time.monotonic() - asked)
            reports.append(report)
            attached += packed
        if not said.manifests and said.no_work is not None and not said.receipts:
            await asyncio.sleep(min(0.2, said.no_work.retry_after_seconds))


def result_of(manifest: Manifest, deltas: Recorded, seconds: float) -> tuple[Report, list[bytes]]:
    """Return the report of a unit and the bytes that go with it."""
    if manifest.unit.kind is UnitKind.EVALUATE:
        result = EvaluationResult(metrics={"loss": 1.0, "accuracy": 0.5}, examples=360)
        report = Report(
            assignment=manifest.assignment,
            nonce=manifest.nonce,
            epoch=manifest.unit.epoch,
            version=manifest.unit.version,
            result=result,
            compute_seconds=seconds,
        )
        return report, []
    delta = deltas.of_unit(manifest.unit)
    packed = pack(delta)
    return report_of(manifest, delta, len(packed)), [packed]


async def replay(plan: RecordedPlan) -> None:
    """Play all hosts, each over a connection of its own, until this process is ended."""
    place = urlsplit(plan.url)
    loop = asyncio.get_running_loop()
    deltas = Recorded(plan.deltas)
    gc.freeze()
    async with asyncio.TaskGroup() as group:
        for host in chain.from_iterable(hosts_of(hosts) for hosts in plan.hosts):
            _, connection = await loop.create_connection(
                Connection, place.hostname or "", place.port or 0
            )
            group.create_task(play(host, connection, deltas))
        print(json.dumps({"event": "started"}), flush=True)


def load_main() -> int:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=RecordedPlan)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(replay(plan))
    return 0


if __name__ == "__main__":
    sys.exit(load_main())
