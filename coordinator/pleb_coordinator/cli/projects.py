"""`project` and `status`: the state of the projects, and pausing them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.api.status import read_status
from pleb_coordinator.cli.access import link_base, now, numbers_of, opened, running_server
from pleb_coordinator.core.project_state import PROJECT_MOVES, ProjectEvent
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.machine import read_machine
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.activity import move_project
from pleb_coordinator.steps.delete import remove_rest, remove_some
from pleb_shared.errors import InputError
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.status import NOT_COMPARABLE, overall
from pleb_system.command_line import table
from pleb_system.durations import shown_day

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pleb_coordinator.home.layout import Home
    from pleb_shared.protocol.status import ProjectStatus
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "statuses"]


def statuses(home: Home) -> list[ProjectStatus]:
    """Return every project's status."""
    links, numbers = link_base(home), numbers_of(home)
    with opened(home) as store, store.read() as tx:
        found = [tx.projects.find(name) for name in tx.projects.names()]
        machine = read_machine(home, now())
        return [read_status(tx, project, links, numbers, now(), machine) for project in found]


def list_projects(home: Home, _: argparse.Namespace, output: Output) -> int:
    """List all projects."""
    found = statuses(home)
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
    output.result([_short(p) for p in found], [*table(head, rows, empty), *warnings])
    return 0


def show(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show one project, as its page does."""
    with opened(home) as store, store.read() as tx:
        machine = read_machine(home, now())
        project = tx.projects.find(options.project)
        found = read_status(tx, project, link_base(home), numbers_of(home), now(), machine)
    output.result(found, _lines(found))
    return 0


def status(home: Home, _: argparse.Namespace, output: Output) -> int:
    """Show whether the coordinator is running, and a line for each project."""
    running = running_server(home) is not None
    url = link_base(home).url
    found = statuses(home)
    first = f"Listening on {url}." if running else "Not running: `pleb-coordinator serve`."
    lines = [
        f"{p.project}: {p.state}, version {p.version}/{p.versions_planned}{_restored(p)}. "
        f"{p.waiting}"
        for p in found
    ]
    lines += [f"! {p.permission_warning}" for p in found if p.permission_warning]
    value = {"running": running, "url": url, "projects": [_short(p) for p in found]}
    output.result(value, [first, *(lines or ["No project yet."])])
    return 0


def pause(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Issue no more units."""
    return _move(home, options.project, ProjectEvent.PAUSED, output)


def resume(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Issue units again."""
    return _move(home, options.project, ProjectEvent.RESUMED, output)


def archive(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Issue no more units, and do no more work in the background."""
    return _move(home, options.project, ProjectEvent.ARCHIVED, output)


def delete(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Remove an archived project: rows, models, data, results."""
    name, deps = options.project, deps_of(home, now, read_config(home.config_file))
    with opened(home) as store:
        with store.read() as tx:
            project = tx.projects.find(name)
        if project.state is not ProjectState.ARCHIVED:
            raise InputError(
                f"{name} is {project.state}: archive it first (`project archive {name}`), so that "
                "its volunteers are told, then delete it."
            )
        if not options.yes and not _confirmed(name, output):
            raise InputError(f"Nothing was deleted: type {name}, or give --yes.")
        while remove_some(store, deps, project.id):
            pass
        files = remove_rest(store, deps, project.id)
    value = {"project": name, "deleted": True, "files": files}
    line = f"{name} is deleted; its {files} files go within minutes, while `serve` runs."
    output.result(value, [line])
    return 0


def _confirmed(name: str, output: Output) -> bool:
    """Ask a person for the name of what cannot be brought back; a program has to give --yes."""
    if not sys.stdin.isatty():
        return False
    output.progress(f"This cannot be undone. Type {name} to delete it:")
    return sys.stdin.readline().strip() == name


_WHY: Final = {
    ProjectEvent.PAUSED: because(ReasonCode.PROJECT_PAUSED),
    ProjectEvent.ARCHIVED: because(ReasonCode.PROJECT_ARCHIVED),
    ProjectEvent.RESUMED: None,
}


def _move(home: Home, name: str, event: ProjectEvent, output: Output) -> int:
    with opened(home) as store, store.write() as tx:
        project = tx.projects.find(name)
        again = project.state in {found for (_, e), found in PROJECT_MOVES.items() if e is event}
        if not (move_project(tx, project, event, _WHY[event], now()) or again):
            raise InputError(f"{name} is {project.state} and cannot be {event}.")
        state = tx.projects.get(project.id).state
    output.result({"project": name, "state": state}, [f"{name} is {state}."])
    return 0


def _restored(p: ProjectStatus) -> str:
    """Return the last step back in a few words; empty: there was none."""
    if not p.restores:
        return ""
    last = p.restores[0]
    return f", version {last.version} is version {last.restores} again ({last.cause})"


def _short(p: ProjectStatus) -> dict[str, Any]:
    names = ("project", "title", "state", "epoch", "version", "versions_planned", "attach_link")
    value: dict[str, Any] = {name: getattr(p, name) for name in names}
    value["permission_ends_at"] = p.permission_ends_at
    value["permission_warning"] = p.permission_warning
    value["comparable"] = p.comparable
    value["trust_warning"] = p.trust_warning
    value |= {"waiting": p.waiting, "waiting_for": p.waiting_for}
    value |= {"waiting_level": p.waiting_level, "best_version": p.best_version}
    value |= {"train_loss": p.train_loss, "metrics": p.metrics, "counts": p.counts}
    return value | {"restores": p.restores}


def _lines(p: ProjectStatus) -> Iterator[str]:
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
    yield f"  results    {p.counts.verified} verified, {p.counts.refused} refused"
    yield f"  in flight  {p.counts.in_flight}"
    yield f"  permission until {shown_day(p.permission_ends_at)}"
    yield f"  join       {p.attach_link}"
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
    "delete": delete,
}
