"""`simulate`: what a fleet would do with a project's settings, in virtual time."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.admin.access import opened
from pleb_coordinator.home.config import check_store
from pleb_coordinator.simulation.attacks import ATTACKS
from pleb_coordinator.simulation.figures import Figures, figures_of
from pleb_coordinator.simulation.fleet import opened_fleet
from pleb_coordinator.simulation.hosts import FleetPlan
from pleb_coordinator.simulation.settings import Settings
from pleb_shared.errors import InputError
from pleb_shared.protocol.project import Round
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_FEWEST_UNITS: Final = 64
"""Of a round without a project that says how many; more volunteers have a unit each."""
_SHORTEST_LEASE_SECONDS: Final = 3600.0
_LEASE_UNITS: Final = 4.0
"""A lease lasts at least so many units of the median PC: some PCs need twice its time, or more."""


def simulate(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Let a fleet work for some virtual hours, and show what came of it."""
    if options.attack == "list":
        rows = [(name, attack.summary) for name, attack in ATTACKS.items()]
        output.result(dict(rows), table(("ATTACK", "WHAT HOSTILE HOSTS DO"), rows, ""))
        return 0
    settings = _settings(home, options)
    output.progress(
        f"{options.hosts} volunteers and {options.trusted} trusted hosts work for "
        f"{options.hours:g} virtual hours; a few milliseconds each result."
    )
    check_store("--store", options.store)
    cpu = time.process_time()
    with opened_fleet(settings, options.store) as fleet:
        fleet.run()
        found = figures_of(fleet)
        requests = fleet.requests
    spent = {"requests": requests, "cpu_seconds": time.process_time() - cpu}
    values = msgspec.structs.asdict(found) | {"units_per_hour": found.units_per_hour} | spent
    output.result(values, _lines(found, settings))
    return 0


def _settings(home: Home, options: argparse.Namespace) -> Settings:
    """Return what the options say, with the project's own rules if one is named.

    Raises:
        InputError: a number makes no sense, or there is no such attack.
        Refusal: there is no such project.
    """
    if options.attack is not None and options.attack not in ATTACKS:
        message = f"There is no attack {options.attack!r}: `simulate --attack list` shows all."
        raise InputError(message)
    if not (0 <= options.share <= 1 and 0 <= options.faults <= 1):
        raise InputError("--share and --faults are parts: give numbers from 0 to 1.")
    if min(options.hours, options.unit_minutes, options.off_hours) <= 0:
        raise InputError("--hours, --unit-minutes and --off-hours must be above 0.")
    fleet = FleetPlan(
        hosts=options.hosts,
        trusted=max(0, options.trusted),
        hostile_share=options.share if options.attack else 0.0,
        attack=ATTACKS[options.attack] if options.attack else None,
        instant=options.instant,
        unit_seconds=60 * options.unit_minutes,
        on_hours=max(0.0, options.on_hours),
        off_hours=options.off_hours,
        fault_rate=options.faults,
    )
    if options.project is None:
        units = max(_FEWEST_UNITS, fleet.hosts)
        return Settings(
            fleet=fleet,
            hours=options.hours,
            seed=options.seed,
            round=Round(units=units, quorum=units * 3 // 4),
            lease_seconds=max(_SHORTEST_LEASE_SECONDS, _LEASE_UNITS * fleet.unit_seconds),
        )
    with opened(home) as store, store.read() as tx:
        metadata = tx.projects.find(options.project).metadata
    usual = Settings()
    return Settings(
        fleet=fleet,
        hours=options.hours,
        seed=options.seed,
        round=metadata.round,
        # the tolerance belongs to the simulated deltas, not to the project's
        verification=msgspec.structs.replace(
            metadata.verification,
            tolerance=usual.verification.tolerance,
            tolerance_ceiling=usual.verification.tolerance_ceiling,
        ),
        local_steps=metadata.training.local_steps,
        lease_seconds=metadata.limits.lease_seconds,
    )


def _lines(found: Figures, settings: Settings) -> Iterator[str]:
    rounds = found.rounds_minutes[:-1] or found.rounds_minutes
    copies = found.results_later / max(1, found.in_model_later)
    yield f"{found.versions} versions, {found.units_per_hour:.0f} units an hour in the model."
    yield (
        f"Rounds: {statistics.median(rounds):.1f} minutes in the middle, "
        f"{found.longest_round_minutes:.1f} at most."
    )
    if not found.versions:
        yield (
            "No version was made in this time: a new fleet first proves its hosts, by "
            f"{settings.verification.new_host_units} units of each. Give more --hours, or units of "
            "fewer --unit-minutes."
        )
    yield f"Results for each unit that counts: {copies:.2f} (in the second half)."
    yield f"Volunteers wait {found.idle:.0%} of the time."
    yield f"Trusted hosts work {found.trusted_load:.0%} of the time."
    yield (
        f"{found.proven} of {found.honest_hosts} honest volunteers are proven"
        + (
            f", after {statistics.median(found.proven_minutes):.0f} minutes."
            if found.proven
            else "."
        )
    )
    if found.honest_refused:
        yield f"Right results that were refused: {found.honest_refused} of {found.honest_results}."
    if found.honest_bans:
        yield f"Honest hosts that were banned: {found.honest_bans}."
    if settings.fleet.attack is not None:
        share = found.wrong_in_model / max(1, found.in_model)
        yield (
            f"Hostile hosts sent {found.lies} lies; {found.wrong_in_model} are in the model "
            f"({share:.2%}). They enrolled {found.hostile_names} times and were banned "
            f"{found.hostile_bans} times."
        )


COMMANDS = {"simulate": simulate}
