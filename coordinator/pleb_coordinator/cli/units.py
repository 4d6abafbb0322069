"""`unit`: a unit's results, how far apart they are, and why they counted or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.admin.units import CancelUnit, ListUnits, ShowUnit
from pleb_coordinator.core.counting import Need
from pleb_coordinator.core.records import Counting, SpotCheck
from pleb_shared.protocol.reasons import Reason, reason_sentence
from pleb_shared.protocol.status import NOT_COMPARABLE
from pleb_system.command_line import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.admin.units import UnitDetails
    from pleb_coordinator.cli.desk import Asker
    from pleb_coordinator.core.records import UnitRow
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_COUNTING: Final = {
    Counting.UNKNOWN: "",
    Counting.AUTHOR: "counts on the word of its proven author",
    Counting.CHECKED: "counts on the word of its proven author, and is checked by lot",
    Counting.HELD: "held: counts once an anchor's check agrees",
    Counting.FAST: "faster than its host computes: two proven hosts or a trusted one must agree",
    Counting.EXAM: "exam: new hosts share it with an anchor, whose result must agree",
    Counting.OWN: (
        "not anchored: trained on its host's own data, so nobody else can compute it; it is one "
        "member's bounded part of the version"
    ),
    Counting.FLEET: "not anchored: no host is trusted or proven, so most of the fleet must agree",
}
_NEEDS: Final = {
    Need.CHECK: "an anchor is asked",
    Need.DECIDER: "a proven host is drawn by lot",
    Need.TRUSTED_DECIDER: "a trusted host is asked",
    Need.LATER: "enough hosts were asked: another one later, or a trusted host with time",
}
_SPOT_CHECKS: Final = {
    SpotCheck.WANTED: "A trusted host is to spot-check it.",
    SpotCheck.DONE: "Computed by a trusted host, too.",
}
_CASES: Final = {
    "convicted": "convicted",
    "doubted": "new again: far off, though its kind of PC may be the reason",
    "suspended": "suspended until a trusted host has looked",
    "pardoned": "pardoned: a trusted host confirmed its result",
    "proven": "proven by this unit",
}
"""What a unit meant for a host, by the event's kind."""


def list_units(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """List a project's units, those of the newest versions first."""
    found = asker.ask(ListUnits(project=options.project, limit=options.limit))
    rows = [(u.id, u.kind, f"{u.epoch}.{u.version}", u.position, u.state) for u in found]
    head = ("UNIT", "KIND", "VERSION", "POSITION", "STATE")
    output.result(found, table(head, rows, "No unit is planned yet."))
    return 0


def show(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Show a unit, its assignments and every decision about them."""
    found = asker.ask(ShowUnit(unit=options.unit))
    lines = list(_lines(found))
    if not found.comparable:
        lines.append(f"! {NOT_COMPARABLE}")
    output.result(found, lines)
    return 0


def cancel(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Cancel a unit that is not decided; no host is blamed, and its round needs one less."""
    found = asker.ask(CancelUnit(unit=options.unit))
    output.result(found, [f"Unit {found.unit} is cancelled."])
    return 0


def _lines(unit: UnitDetails) -> Iterator[str]:
    place = f"{unit.kind} of version {unit.version}, epoch {unit.epoch}"
    shards = f"{unit.shard_first}+{unit.shard_count}"
    yield f"Unit {unit.id}: {place}: {unit.state}"
    batches = unit.batches_per_step
    work = f"{unit.local_steps} steps" + (f", {batches} to an update" if batches > 1 else "")
    data = "its host's own data" if unit.counting is Counting.OWN else f"shards {shards}"
    yield f"  {data}, seed {unit.seed}, {work}"
    if unit.memory_bytes:
        needed = f"for hosts with {unit.memory_bytes >> 20} MiB or more for a unit"
        yield f"  chunk {unit.chunk}, {needed}"
    yield from _trust(unit)
    for a in unit.assignments:
        who = a.host_name or (a.host or "no host yet")[:12]
        mark = "  *" if a.assignment == unit.canonical else "   "
        yield f"{mark}assignment {a.assignment} ({a.purpose}) by {who}: {a.state}"
        if a.host is not None:
            yield f"      its host knows it as {a.host_calls_it}"
        if a.digest:  # calibrations may have no losses
            known = a.loss_first is not None and a.loss_last is not None
            loss = f"loss {a.loss_first:.4g} -> {a.loss_last:.4g}" if known else "no loss"
            yield f"      reported {a.digest[:12]}..., {loss}"
        if a.reason:
            yield f"      {reason_sentence(a.reason)}"
    for event in unit.events:
        if event.kind == "verified":
            yield from _decision(event.detail)
        elif event.kind == "held":
            why = reason_sentence(msgspec.convert(event.detail["reason"], Reason))
            yield f"  Held before its version was made: {why}"
        elif event.kind in _CASES:
            yield f"    host {event.host}: {_CASES[event.kind]}"


def _trust(unit: UnitRow) -> Iterator[str]:
    """Say what makes the unit's result count."""
    if counting := _COUNTING[unit.counting]:
        rate = "" if unit.audit_rate is None else f" (check rate {unit.audit_rate:.0%})"
        yield f"  {counting}{rate}"
    if unit.disputed:
        yield "  in dispute: results differ, and none counts until it is known which is right"
    if spot_check := _SPOT_CHECKS.get(unit.spot_check):
        yield f"  {spot_check}"


def _decision(detail: dict[str, Any]) -> Iterator[str]:
    reason = reason_sentence(msgspec.convert(detail["reason"], Reason))
    result = "Counts" if detail["decided"] else "In dispute" if detail["disputed"] else "Waits"
    yield f"  {result}: {reason}"
    if detail["need"] is not None:
        yield f"    {_NEEDS[Need(detail['need'])]}"
    for suspicion in detail["suspicions"]:
        yield f"    Suspicious: {reason_sentence(msgspec.convert(suspicion, Reason))}"
    for first, second, distance in detail["distances"]:
        side = "within" if distance <= detail["tolerance"] else "beyond"
        yield (
            f"    {first[:12]}... and {second[:12]}... differ by {distance:.3g}, "
            f"{side} the tolerance of {detail['tolerance']:.3g}"
        )


COMMANDS: Final = {
    "list": list_units,
    "show": show,
    "cancel": cancel,
}
