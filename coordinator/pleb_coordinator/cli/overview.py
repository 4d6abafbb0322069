"""`overview`: the coordinator at a glance, as the operator's page shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.admin.overview import ReadOverview
from pleb_shared.protocol.reasons import reason_sentence
from pleb_system.durations import shown_duration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.admin.overview import Overview, ProjectOverview
    from pleb_coordinator.cli.desk import Asker
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def overview(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """Show rates, rounds, hosts by class, refusals, storage and backups."""
    found = asker.ask(ReadOverview())
    output.result(found, _lines(found))
    return 0


def _lines(found: Overview) -> Iterator[str]:
    for one in found.projects:
        yield from _of_project(one, found.at)
    if not found.projects:
        yield "No project yet."
    sizes = [("store", found.store_bytes), ("free on the disk", found.free_bytes)]
    shown = [f"{name} {value / 1e6:,.1f} MB" for name, value in sizes if value is not None]
    yield f"storage    {', '.join(shown)}; {found.files_to_delete} files to delete"
    if found.backup is None:
        yield "backup     none was made yet: see `pleb-coordinator backup --help`"
    else:
        age = shown_duration(max(0.0, found.at - found.backup.at))
        yield f"backup     {age} ago, in {found.backup.folder}"


def _of_project(one: ProjectOverview, now: float) -> Iterator[str]:
    p = one.project
    yield f"{p.project}: {p.state}, version {p.version}/{p.versions_planned}. {p.waiting}"
    if one.round is not None:
        age = shown_duration(max(0.0, now - one.round.opened_at))
        yield (
            f"  round      {one.round.valid} of {one.round.units} units verified, "
            f"{one.round.quorum} needed, open for {age}"
        )
    for name, rate in (("last hour", one.hour), ("last day", one.day)):
        yield (
            f"  {name:<9}  {rate.versions} versions of {rate.results} results, {rate.issued} units "
            f"issued, {rate.enrolled} hosts enrolled, {rate.convicted} results convicted"
        )
    for c in one.classes:
        yield (
            f"  class      {c.digest[:8] or 'none yet'}: {c.hosts} hosts, {c.active} active, "
            f"{c.trusted} trusted, {c.proven} proven, {c.suspended} suspended, {c.convicted} "
            f"convicted, {c.banned} banned"
        )
    for n in one.networks:
        yield (
            f"  network    {n.network}: {n.accounts} accounts, {n.hosts} hosts, {n.proven} proven, "
            f"{n.convicted} convicted, {n.banned} banned"
        )
    for refusing in one.refusing:
        yield f"  refusing   {refusing.hosts} hosts: {refusing.sentence}"
    for signal in one.signals:
        yield f"  signal     {signal.count} times: {reason_sentence(signal.reason)}"
    for case in one.cases:
        unit = "" if case.unit is None else f" for unit {case.unit}"
        age = shown_duration(max(0.0, now - case.at))
        yield f"  case       {case.name or case.host or 'a result'}: {case.kind}{unit}, {age} ago"
    stored = (one.storage.delta_bytes + one.storage.blob_bytes) / 1e6
    yield f"  stored     {stored:,.1f} MB; {one.trusted_queue} checks wait for trusted hosts"


COMMANDS: Final = {"overview": overview}
