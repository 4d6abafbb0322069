"""`pleb-project move`: go on with a project at another coordinator, and tell those it has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_project.cli.keys import publisher_of
from pleb_project.readers.blobs import BlobFolder
from pleb_project.server.client import Address, Coordinator, parse_address
from pleb_shared.errors import InputError
from pleb_system.exit_codes import ExitCode
from pleb_system.start_up import loading

if TYPE_CHECKING:
    import argparse

    from pleb_project.server.records import Home
    from pleb_shared.protocol.ids import AttachLink
    from pleb_system.command_line import Output

__all__ = ["move"]


def move(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Go on with a project at another coordinator."""
    with loading():
        from pleb_project.publish.left import tell_left
        from pleb_project.publish.move import Mover, finish_round
    link, there = home.find(options.project), parse_address(options.to)
    record, blobs = home.record(link.project), BlobFolder(home.build_folder(link.project))
    if there.url == link.base_url:
        if record is None or not record.untold:
            raise InputError(f"{link.project} is at {there.url} already.")
        with _coordinator(home, link) as coordinator:
            new = publisher_of(coordinator, home, options, output)
            untold, credit = tell_left(new, link.project, blobs)
        return _show_told(link, untold, output, credit=credit)
    place = parse_address(options.mirror) if options.mirror else None
    old = _coordinator(home, link) if place is None else Coordinator(place)
    with old as source, Coordinator(there) as coordinator:
        new = publisher_of(coordinator, home, options, output)
        new.prepare(link.project, options.invite)  # a wrong invite is found before anything stops
        if place is None and not options.now:
            note = f"It moves to {there.url}."
            finish_round(publisher_of(source, home, options, output), link.project, note)
        left = Address(link.base_url, link.certificate)
        moved = Mover(source, left, new, blobs).move(link.project, options.invite)
    lines = [
        f"{link.project} goes on at {there.url}, from version {moved.version}.",
        "Agents follow by themselves."
        if moved.told
        else "Agents that cannot reach the old coordinator find it by the project's mirrors: run "
        "`pleb-coordinator mirror sync` at the new one. If the old one comes back, run this again: "
        "it would issue units else.",
        "Hosts have their credit."
        if moved.credit
        else "Hosts' credit did not come along: only the old coordinator can sign it, and no "
        "mirror has it. If that comes back, run this again.",
        f"Attach link: {moved.record.attach_link}",
    ]
    value = {
        "project": link.project,
        "version": moved.version,
        "told": moved.told,
        "credit": moved.credit,
        "attach_link": moved.record.attach_link,
    }
    output.result(value, lines)
    return 0


def _show_told(link: AttachLink, untold: list[str], output: Output, *, credit: bool) -> int:
    """Say what became of coordinators that a project has left."""
    lines = [f"{place} could not be told yet: run this again." for place in untold]
    lines += [] if untold else [f"Whoever had {link.project} before sends hosts on now."]
    lines += ["Hosts have their credit from there."] if credit else []
    output.result({"project": link.project, "untold": untold, "credit": credit}, lines)
    return ExitCode.UNREACHABLE if untold else ExitCode.DONE


def _coordinator(home: Home, link: AttachLink) -> Coordinator:
    return Coordinator(Address(link.base_url, link.certificate), home.reading(link.project))
