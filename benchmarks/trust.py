"""What hostile hosts get into the model, and what that costs honest ones.

A simulated fleet (`pleb_coordinator.simulation`) works for some hours of virtual time on the real
steps; `attacks.ATTACKS` says what its hostile part does. Wrong is what a host sent knowing
that it is wrong, found in the rows of what made each version. Shares come with 95 % bounds
(Wilson) over all seeds together; a dash stands for what did not happen.

The full run plays every attack with 10 % hostile hosts among 60, at honest speed and at once, with
and without a trusted host; the hardest also with 2, 20 and 33 % and in fleets of 20 and 300; and
a flood of 3,000 newcomers. Beside each row stands what the first version of the policy let in.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.simulation.attacks import ATTACKS
from pleb_coordinator.simulation.figures import Figures, figures_of
from pleb_coordinator.simulation.fleet import opened_fleet
from pleb_coordinator.simulation.hosts import FleetPlan
from pleb_coordinator.simulation.settings import Settings
from pleb_shared.protocol.project import Round

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

SHORTEST_UNIT: Final = Round().shortest_unit
"""A new project's."""
PEACE: Final = "none"
FLOOD: Final = "newcomers"
FIRST_VERSION: Final = Path(__file__).with_name("trust_first_version.json")
"""Rows of the first version of the policy, measured by this benchmark before it was replaced."""
HOURS: Final = 6.0
LONGER: Final = {"sleepers_50": 9.0, "sleepers_200": 30.0, "turn_at_once": 30.0, FLOOD: 12.0}
QUICK_HOURS: Final = 3.0
QUICK: Final = (PEACE, "random", "same_lie", "first_tries", "sleepers_20", "made_class")
HARDEST: Final = ("same_lie", "first_tries", "sleepers_20", "sleepers_50", "made_class", "alie")
"""Played in more fleets than the others."""
_Z: Final = 1.96


@dataclass(frozen=True)
class Case:
    """A fleet and what its hostile part does."""

    attack: str
    share: float = 0.1
    hosts: int = 60
    trusted: int = 1
    instant: bool = False
    hours: float = HOURS
    trains: bool = False
    record: int = 0
    shortest_unit: float = SHORTEST_UNIT

    def settings(self, seed: int) -> Settings:
        fleet = FleetPlan(
            hosts=self.hosts,
            trusted=self.trusted,
            hostile_share=self.share if self.attack in ATTACKS else 0.0,
            attack=ATTACKS.get(self.attack),
            instant=self.instant,
            record=self.record,
            # suspicion has nothing to compare with before the fleet has confirmed results
            calm_hours=0.5 if self.record else 0.0,
            newcomers=3000 if self.attack == FLOOD else 0,
        )
        settings = Settings(fleet=fleet, hours=self.hours, seed=seed, trains=self.trains)
        rounds = msgspec.structs.replace(settings.round, shortest_unit=self.shortest_unit)
        return replace(settings, round=rounds)

    @property
    def name(self) -> str:
        speed = "at once" if self.instant else "honest speed"
        return f"{self.attack}, {speed}, {self.share:.0%} of {self.hosts}, {self.trusted} trusted"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark can be told."""
    parser.add_argument("--attack", action="append", choices=[PEACE, FLOOD, *ATTACKS])
    parser.add_argument("--seeds", type=int, help="runs of each case (3; --quick: 1)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--hosts", type=int, help="volunteers (60)")
    parser.add_argument("--share", type=float, help="hostile part of them (0.1)")
    parser.add_argument("--trusted", type=int, help="trusted hosts (both 0 and 1)")
    parser.add_argument("--speed", choices=("honest", "instant"), help="of lies (both)")
    parser.add_argument("--hours", type=float, help="virtual time (6; more for sleepers)")
    parser.add_argument("--train", action="store_true", help="deltas of real training")
    parser.add_argument("--record", type=int, default=0, help="accepted results at the start (0)")
    parser.add_argument("--shortest-unit", type=float, default=SHORTEST_UNIT)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--save", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument(
        "--runs", type=Path, metavar="FILE", help="add each run to FILE; skip those that it has"
    )


def main(options: argparse.Namespace) -> dict[str, Any]:
    """Play all cases; print the table and return what becomes the line of JSON."""
    seeds = options.seeds or (1 if options.quick else 3)
    rows = played(cases(options), range(options.first_seed, options.first_seed + seeds), options)
    if options.save is not None:
        options.save.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for line in table(rows, first_version()):
        print(line)
    return summary(rows)


def cases(options: argparse.Namespace) -> list[Case]:
    """Return what is to be played."""
    if options.attack or not options.quick:
        names = options.attack or [PEACE, *ATTACKS, FLOOD]
    else:
        names = list(QUICK)
    found = [case for name in names for case in _usual(name, options)]
    if not (options.quick or options.attack):
        hard = [case for case in found if case.attack in HARDEST]
        shares = [replace(case, share=share) for case in hard for share in (0.02, 0.2, 0.33)]
        fleets = [replace(case, hosts=hosts) for case in hard for hosts in (20, 300)]
        found += shares + fleets
    return list(dict.fromkeys(found))


def _usual(name: str, options: argparse.Namespace) -> list[Case]:
    hours = options.hours or (QUICK_HOURS if options.quick else LONGER.get(name, HOURS))
    trusted = [options.trusted] if options.trusted is not None else [1] if options.quick else [1, 0]
    speeds = [options.speed == "instant"] if options.speed else [False, True]
    if name not in ATTACKS or ATTACKS[name].computes:
        speeds = [False]
    elif options.quick and not options.speed:
        speeds = [True]
    share = 0.1 if options.share is None else options.share
    return [
        Case(
            attack=name,
            share=share,
            hosts=options.hosts or 60,
            trusted=number,
            instant=instant,
            hours=hours,
            trains=options.train,
            record=options.record,
            shortest_unit=options.shortest_unit,
        )
        for number in trusted
        for instant in speeds
    ]


def played(
    cases: Sequence[Case], seeds: Sequence[int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each case; runs are spread over processes, the longest first."""
    runs = sorted(
        ((case, seed) for case in cases for seed in seeds),
        key=lambda run: -run[0].hours * run[0].hosts,
    )
    found: dict[Case, list[Figures]] = defaultdict(list)
    known = {(run.case, run.seed): run.figures for run in runs_in(options.runs)}
    for run in runs:
        if run in known:
            found[run[0]].append(known[run])
    new = [run for run in runs if run not in known]
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=options.processes, mp_context=context) as pool:
        waiting = {pool.submit(play, *run): run for run in new}
        for number, future in enumerate(as_completed(waiting), 1):
            (case, seed), figures = waiting[future], future.result()
            found[case].append(figures)
            if options.runs is not None:
                with options.runs.open("ab") as file:
                    file.write(msgspec.json.encode(Run(case, seed, figures)) + b"\n")
            if len(found[case]) == len(seeds):
                row = row_of(case, found[case])
                print(f"[{number}/{len(new)}] {line_of(row, {})}", flush=True)
    return [row_of(case, found[case]) for case in cases]


@dataclass(frozen=True)
class Run:
    """What came of one case with one seed, as kept in the file of `--runs`."""

    case: Case
    seed: int
    figures: Figures


def runs_in(file: Path | None) -> list[Run]:
    """Return the runs that an earlier, perhaps interrupted benchmark has kept."""
    if file is None or not file.exists():
        return []
    return [msgspec.json.decode(line, type=Run) for line in file.read_bytes().splitlines()]


def play(case: Case, seed: int) -> Figures:
    with opened_fleet(case.settings(seed)) as fleet:
        fleet.run()
        return figures_of(fleet)


def row_of(case: Case, runs: Sequence[Figures]) -> dict[str, Any]:
    """Return what came of all runs of a case together."""

    def total(name: str) -> float:
        return float(sum(getattr(run, name) for run in runs))  # names are this module's own

    low, high = wilson(int(total("wrong_in_model")), int(total("in_model")))
    refused_low, refused_high = wilson(int(total("honest_refused")), int(total("honest_results")))
    unit = total("work_honest") / max(1.0, total("honest_results"))
    honest_rate = total("credit_honest") / max(1.0, total("work_honest"))
    honest_hourly = total("credit_honest") / max(1e-9, total("person_hours_honest"))
    hostile_hourly = total("credit_hostile") / max(1e-9, total("person_hours_hostile"))
    hostile_rate = total("credit_hostile") / max(unit, total("work_hostile"))
    caught = [count for run in runs for count in run.units_to_catch]
    caught += [10**9] * int(total("never_caught"))
    median = statistics.median_low(caught) if caught else 10**9
    proven = [minutes for run in runs for minutes in run.proven_minutes]
    return {
        "attack": case.attack,
        "share": case.share,
        "hosts": case.hosts,
        "trusted": case.trusted,
        "instant": case.instant,
        "hours": case.hours,
        "record": case.record,
        "shortest_unit": case.shortest_unit,
        "seeds": len(runs),
        "accepted": total("lies_accepted") / max(1.0, total("lies")),
        "left_in_model": total("wrong_in_model") / max(1.0, total("in_model")),
        "left_in_model_bounds": [low, high],
        "in_model": total("in_model"),
        "left_later": total("wrong_later") / max(1.0, total("in_model_later")),
        "median_units_to_catch": None if median == 10**9 else median,
        "names": total("hostile_names"),
        "credit_per_flop": hostile_rate / max(1e-30, honest_rate),
        "credit_per_hour": hostile_hourly / max(1e-30, honest_hourly),
        "refused_honest": total("honest_refused") / max(1.0, total("honest_results")),
        "refused_honest_bounds": [refused_low, refused_high],
        "honest_convicted": total("honest_convicted"),
        "honest_bans": total("honest_bans"),
        "honest_hosts": total("honest_hosts"),
        "replication": total("results") / max(1.0, total("in_model")),
        "replication_later": total("results_later") / max(1.0, total("in_model_later")),
        "longest_round_minutes": max(run.longest_round_minutes for run in runs),
        "proven_minutes": statistics.median(proven) if proven else None,
        "proven_minutes_95": sorted(proven)[int(0.95 * len(proven))] if proven else None,
        "never_proven": total("newcomers"),
        "units_per_hour": total("in_model") / max(1e-9, total("hours")),
        "trusted_load": statistics.fmean(run.trusted_load for run in runs),
        "accuracy": statistics.fmean(run.accuracy or 0.0 for run in runs),
        "idle": statistics.fmean(run.idle for run in runs),
    }


def wilson(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % bounds of a share (Wilson 1927); all of [0, 1] for nothing of nothing."""
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, _Z**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return max(0.0, middle - half), min(1.0, middle + half)


COLUMNS: Final = (
    *(("attack", 20), ("speed", 8), ("share", 6), ("hosts", 6), ("trusted", 8)),
    *(("wrong in model, 95 %", 24), ("first", 8), ("accepted", 9), ("caught", 7)),
    *(("cr/flop", 8), ("cr/hour", 8), ("refused", 9), ("bans", 8), ("copies", 7), ("later", 6)),
    *(("round", 6), ("proven", 7), ("units/h", 8), ("load", 5), ("idle", 5)),
)
"""What the table shows, and how wide it is."""
LEGEND: Final = """
first: wrong in the model with the policy's first version; caught: median of results until a name
was convicted; cr: credit against an honest host's; refused, bans: right results, honest hosts;
later: copies in the second half; round: the longest, in minutes; proven: median minutes"""


def table(
    rows: Iterable[Mapping[str, Any]], first: Mapping[str, Mapping[str, Any]]
) -> Iterable[str]:
    """Return lines for people."""
    yield ""
    yield "".join(name.ljust(width) for name, width in COLUMNS)
    for row in rows:
        yield line_of(row, first.get(_key(row), {}))
    yield LEGEND


def line_of(row: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    low, high = row["left_in_model_bounds"]
    caught, proven = row["median_units_to_catch"], row["proven_minutes"]
    cells = (
        row["attack"],
        "instant" if row["instant"] else "honest",
        f"{row['share']:.0%}",
        row["hosts"],
        row["trusted"],
        f"{row['left_in_model']:.3%} [{low:.2%}, {high:.2%}]",
        f"{first['left_in_model']:.2%}" if first else "-",
        f"{row['accepted']:.1%}",
        "-" if caught is None else caught,
        f"{row['credit_per_flop']:.2f}",
        f"{row['credit_per_hour']:.2f}",
        f"{row['refused_honest']:.3%}",
        f"{row['honest_bans']:.0f}/{row['honest_hosts']:.0f}",
        f"{row['replication']:.2f}",
        f"{row['replication_later']:.2f}",
        f"{row['longest_round_minutes']:.0f}",
        "-" if proven is None else f"{proven:.0f}",
        f"{row['units_per_hour']:.0f}",
        f"{row['trusted_load']:.2f}",
        f"{row['idle']:.2f}",
    )
    return "".join(str(cell).ljust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def first_version() -> dict[str, dict[str, Any]]:
    """Return the first version's rows by `_key`; empty while they are being measured."""
    if not FIRST_VERSION.exists():
        return {}
    return {_key(row): row for row in json.loads(FIRST_VERSION.read_text(encoding="utf-8"))}


def _key(row: Mapping[str, Any]) -> str:
    fleet = (row["share"], row["hosts"], row["trusted"])
    return f"{row['attack']} {row['instant']} {fleet}"


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each attack its worst row in the usual fleet, and what holds for all rows.

    Rows of other fleets are under `fleets`, by their names.
    """
    attacks: dict[str, Any] = {}
    for row in rows:
        if (row["hosts"], row["share"]) == (rows[0]["hosts"], rows[0]["share"]):
            known = attacks.get(row["attack"])
            if known is None or row["left_in_model"] > known["left_in_model"]:
                attacks[row["attack"]] = row
    with_trusted = [row for row in rows if row["trusted"]]
    peace = [row for row in rows if row["attack"] == PEACE]
    return {
        "attacks": attacks,
        "refused_honest": max(row["refused_honest"] for row in rows),
        "replication": max((row["replication_later"] for row in peace), default=None),
        "replication_attacked": max(row["replication_later"] for row in rows),
        "honest_bans_with_trusted": sum(row["honest_bans"] for row in with_trusted),
        "longest_round_minutes": max(row["longest_round_minutes"] for row in rows),
        "rows": list(rows),
        "first_version": list(first_version().values()),
    }
