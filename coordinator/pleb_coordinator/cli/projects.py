"""`project` and `status`: the state of the projects, and pausing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.admin.projects import (
    ArchiveProject,
    DeleteProject,
    ExtendProject,
    ListProjects,
    PauseProject,
    ResumeProject,
    ShowFamily,
    ShowProject,
    ShowStatus,
)
from pleb_coordinator.cli.families import family_lines
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.status import (
    NOT_COMPARABLE,
    OWN_DATA,
    overall,
    shown_coverage,
    shown_privacy,
    shown_received,
)
from pleb_system.command_line import table
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.admin.command import Command
    from pleb_coordinator.admin.projects import ProjectMoved, ProjectShort
    from pleb_coordinator.cli.desk import Asker
    from pleb_shared.protocol.status import ProjectStatus
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "project_lines"]


def list_projects(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """List all projects."""
    found = asker.ask(ListProjects())
    head = ("PROJECT", "STATE", "VERSION", "LOSS", "HOSTS", "VERIFIED", "REFUSED", "IN FLIGHT")
    rows = [
        (
            p.project,
            p.state,
            f"{p.version}/{p.versions_planned}",
            "-" if p.train_loss is None else f"{p.train_loss:.4g}",
            p.counts.hosts,
            p.counts.verified,
            p.counts.refused,
            p.counts.in_flight,
        )
        for p in found
    ]
    empty = "No project yet: create an invite with `pleb-coordinator invite new --role publisher`."
    warnings = [f"! {p.permission_warning}" for p in found if p.permission_warning]
    output.result(found, [*table(head, rows, empty), *warnings])
    return 0


def show(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Show one project, or all members of a family, as its page does."""
    try:
        found = asker.ask(ShowProject(project=options.project))
    except Refusal as unknown:
        if unknown.code != RefusalCode.UNKNOWN_PROJECT:
            raise
        try:
            family = asker.ask(ShowFamily(family=options.project))
        except Refusal:
            raise unknown from None
        output.result(family, family_lines(family))
        return 0
    output.result(found, project_lines(found))
    return 0


def status(asker: Asker, _: argparse.Namespace, output: Output) -> int:
    """Show whether the coordinator is running, and a line for each project."""
    found = asker.ask(ShowStatus())
    first = f"Listening on {found.url}."
    if not found.running:
        first = "Not running: `pleb-coordinator serve`."
    lines = [
        f"{p.project}: {p.state}, version {p.version}/{p.versions_planned}{_restored(p)}. "
        f"{p.waiting}"
        for p in found.projects
    ]
    lines += [f"! {p.permission_warning}" for p in found.projects if p.permission_warning]
    output.result(found, [first, *(lines or ["No project yet."])])
    return 0


def pause(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Issue no more units."""
    return _move(asker, PauseProject(project=options.project), output)


def resume(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Issue units again."""
    return _move(asker, ResumeProject(project=options.project), output)


def archive(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Issue no more units, and do no more work in the background."""
    return _move(asker, ArchiveProject(project=options.project), output)


def extend(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Go on past the target and the patience."""
    return _move(asker, ExtendProject(project=options.project), output)


def delete(asker: Asker, options: argparse.Namespace, output: Output) -> int:
    """Remove an archived or moved project: rows, models, data, results."""
    found = asker.ask(DeleteProject(project=options.project))
    line = (
        f"{found.project} is deleted; its {found.files} files go within minutes, while `serve` "
        "runs."
    )
    output.result(found, [line])
    return 0


def _move(asker: Asker, command: Command[ProjectMoved], output: Output) -> int:
    found = asker.ask(command)
    output.result(found, [f"{found.project} is {found.state}."])
    return 0


def _restored(p: ProjectShort | ProjectStatus) -> str:
    """Return the last step back in a few words; empty: there was none."""
    if not p.restores:
        return ""
    last = p.restores[0]
    return f", version {last.version} is version {last.restores} again ({last.cause})"


def project_lines(p: ProjectStatus) -> Iterator[str]:
    """Yield what `project show` says of one project."""
    yield f"{p.title or p.project} ({p.project}), {p.state}"
    yield f"  version    {p.version} of {p.versions_planned}, epoch {p.epoch}{_restored(p)}"
    yield f"  waiting    {p.waiting}"
    if p.best_version is not None:
        yield f"  best       version {p.best_version}"
    yield f"  loss       {'-' if p.train_loss is None else f'{p.train_loss:.5g}'}"
    for name, value in overall(p.metrics).items():
        yield f"  {name:<9}  {value:.5g} on the holdout (version {p.metrics_version})"
    counts = msgspec.structs.asdict(p.counts)
    yield "  fleet      " + ", ".join(f"{counts[name]} {name}" for name in ("hosts", "accounts"))
    yield (
        f"  results    {p.counts.verified} verified, {p.counts.refused} refused, "
        f"{p.counts.undecided} undecided"
    )
    yield f"  in flight  {p.counts.in_flight}"
    if p.coverage is not None:
        yield f"  shards     {shown_coverage(p.coverage)}"
    if p.received.total:
        yield f"  downloads  {shown_received(p.received)}"
    for url in p.mirrors:
        yield f"  mirror     {url}"
    yield from (f"  privacy    {sentence}" for sentence in shown_privacy(p))
    yield f"  permission until {shown_day(p.permission_ends_at)}"
    yield f"  join       {p.attach_link}"
    if p.own_data:
        yield f"! {OWN_DATA}"
    if not p.comparable:
        yield f"! {NOT_COMPARABLE}"
    if p.trust_warning:
        yield f"! {p.trust_warning}"
    if p.permission_warning:
        yield f"! {p.permission_warning}"


COMMANDS: Final = {
    "status": status,
    "list": list_projects,
    "show": show,
    "pause": pause,
    "resume": resume,
    "archive": archive,
    "extend": extend,
    "delete": delete,
}
