"""What each command does. torch is imported only by those that need the model."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pleb_project.definition.load import load_definition
from pleb_project.server.client import Address, Coordinator, parse_address
from pleb_shared.errors import InputError
from pleb_system.durations import shown_day
from pleb_system.exit_codes import ExitCode
from pleb_system.start_up import loading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pleb_project.check.run import CheckOutcome
    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.records import Home
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.project import Activity, ProjectMetadata
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]


def new(_: Home, options: argparse.Namespace, output: Output) -> int:
    """Write a template."""
    from pleb_project.template import FIRST, TEMPLATES, write_template

    if options.list:
        width = max(map(len, TEMPLATES))
        output.result(TEMPLATES, [f"{name:<{width}}  {what}" for name, what in TEMPLATES.items()])
        return 0
    if options.folder is None:
        raise InputError("Name the folder to write: pleb-project new FOLDER --template NAME.")
    files = write_template(options.folder, options.template)
    lines = [f"Wrote {file}" for file in files]
    if options.template in FIRST:
        lines.append(FIRST[options.template].format(folder=options.folder))
    lines.append(
        f"Next: pleb-project check {options.folder}, then pleb-project try {options.folder}"
    )
    output.result({"files": [str(file) for file in files]}, lines)
    return 0


def check(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Check a project and print what was found."""
    outcome, _ = _checked(
        home, _definition(home, options), output, reuse=False, cpu_minutes=options.cpu_minutes
    )
    from pleb_project.check.run import check_json, check_rows

    rows = list(check_rows(outcome))
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    lines += [f"! {warning}" for warning in outcome.warnings]
    lines.append(
        "Ready to try and to publish." if outcome.passed else "Not ready: see the lines with '!'."
    )
    output.result(check_json(outcome), lines)
    return 0 if outcome.passed else ExitCode.FAULT_FOUND


def try_out(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Train some versions with a temporary coordinator and an agent."""
    from pleb_project.tryout import try_project

    definition = _definition(home, options)
    name, overrides = definition.project.name, tuple(options.set)
    if definition.model.initial:  # the trial's home knows no published project
        initial = options.folder.absolute() / definition.model.initial
        overrides += (f"model.initial={initial}",)
    result = try_project(
        options.folder, overrides, options.versions, output.progress, home.build_folder(name)
    )
    sentence = f"{name}: {result['versions']} versions in {result['seconds']:.0f} s"
    output.result({"project": name, **result}, sentence)
    return 0


def publish(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Check, sign and send a project."""
    from pleb_project.cli.keys import publisher_of

    address = parse_address(options.to)
    with Coordinator(address) as coordinator:
        # Fail now, not after minutes of checking.
        publisher = publisher_of(coordinator, home, options, output)
        definition = _definition(home, options)
        answer = publisher.prepare(definition.project.name, options.invite)
        admit = partial(publisher.check_epoch, new_epoch=options.new_epoch)
        outcome, blobs = _checked(
            home, definition, output, reuse=True, cpu_minutes=options.cpu_minutes, admit=admit
        )
        for warning in outcome.warnings:
            output.progress(f"! {warning}")
        if not (outcome.passed or options.unchecked):
            output.progress("Not published: fix what the check found, or add --unchecked.")
            return ExitCode.FAULT_FOUND
        shards = outcome.draft.dataset.shards
        size = sum(shard.size for shard in [*shards.train, *shards.holdout])
        if not answer.number and size > answer.free_bytes:
            raise InputError(
                f"The project's data have {size / 1e6:,.0f} MB, and the coordinator has only "
                f"{answer.free_bytes / 1e6:,.0f} MB of free space: ask its operator for more."
            )
        record = publisher.publish(
            outcome.metadata, blobs, invite=options.invite, new_epoch=options.new_epoch
        )
    output.result(
        {"project": record.project, "attach_link": record.attach_link},
        [
            "Published. Volunteers attach with:",
            f"  {record.attach_link}",
            (
                f"The coordinator may issue work until {shown_day(record.permission_ends_at)}; "
                "`pleb-project autorenew on` renews that while this PC is on."
            ),
        ],
    )
    return 0


def renew(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Sign the delegation again: of one project, of all, or of what is due."""
    from pleb_project.cli.keys import publisher_of
    from pleb_project.cli.renewing import renew_all_due, watch_due

    if options.watch or options.due:
        if options.project is not None:
            raise InputError("--due and --watch are for all projects: leave out PROJECT.")
        act = watch_due if options.watch else renew_all_due
        return act(home, options, output)
    names = [record.project for record in home.records()]
    if options.project is None and not names:
        raise InputError(f"No project was published from {home.path}: give --home.")
    records = []
    for name in names if options.project is None else [options.project]:
        link = home.find(name)
        with _coordinator(link) as coordinator:
            records.append(publisher_of(coordinator, home, options, output).renew(link.project))
    values = [
        {
            "project": record.project,
            "attach_link": record.attach_link,
            "permission_ends_at": record.permission_ends_at,
        }
        for record in records
    ]
    lines = [
        f"Renewed {record.project} until {shown_day(record.permission_ends_at)}: "
        f"{record.attach_link}"
        for record in records
    ]
    output.result(values if options.project is None else values[0], lines)
    return 0


def autorenew(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Have the system renew once a day, or not."""
    from pleb_project.cli.renewing import autorenew as switch

    return switch(home, options, output)


def warn(home: Home, output: Output) -> None:
    """Say which permissions end within ten days."""
    from pleb_project.cli.keys import now
    from pleb_project.renewal import warnings_of

    for sentence in warnings_of(home, now()):
        output.progress(sentence)


def key(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show, rotate or revoke keys, or change a passphrase."""
    from pleb_project.cli.keys import ACTIONS

    return ACTIONS[options.action](home, options, output)


def status(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show the project's status once, or until it is finished."""
    from pleb_project.server.status import watch_project

    link = home.find(options.project)
    with _coordinator(link) as coordinator:
        watch_project(coordinator, link.project, output.result, time.sleep, forever=options.watch)
    return 0


def export(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Download a version, or an average that ends with it."""
    from pleb_project.download import download_model, parse_wanted

    link = home.find(options.project)
    wanted = parse_wanted("best" if options.best else options.version)
    wanted = dataclasses.replace(wanted, ema=options.ema)
    with _coordinator(link) as coordinator:
        saved = download_model(coordinator, link, options.file, wanted)
    what = (
        "version" if options.ema is None else f"the average (decay {options.ema:g}) up to version"
    )
    output.result(
        {"file": str(options.file), **dataclasses.asdict(saved), "ema": options.ema},
        f"Wrote {what} {saved.version} ({saved.tensors} tensors) to {options.file}",
    )
    return 0


_DONE: Final = {
    "active": "The coordinator issues work again.",
    "paused": "No more work is issued; results that are on their way still count.",
    "archived": "No more work is issued. `pleb-project resume` opens the project again.",
}


def pause(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Have no work issued for a while."""
    return _set_activity(home, options, output, "paused", options.because)


def resume(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Have work issued again."""
    return _set_activity(home, options, output, "active", "")


def archive(home: Home, options: argparse.Namespace, output: Output) -> int:
    """End the project; its versions stay."""
    return _set_activity(home, options, output, "archived", options.because)


def _set_activity(
    home: Home, options: argparse.Namespace, output: Output, activity: Activity, note: str
) -> int:
    from pleb_project.cli.keys import publisher_of
    from pleb_project.server.status import decode_status

    link = home.find(options.project)
    with _coordinator(link) as coordinator:
        publisher_of(coordinator, home, options, output).set_activity(link.project, activity, note)
        state = decode_status(coordinator.status(link.project)).state
    output.result(
        {"project": link.project, "state": state}, [f"{link.project} is {state}.", _DONE[activity]]
    )
    return 0


def demo(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Run the demo, or stop one that was left running."""
    from pleb_project.demo.run import run_demo, stop_demo

    if not options.stop:
        return run_demo(home.path, keep_running=options.keep)
    url = stop_demo(home.path)
    output.result({"stopped": url}, f"Stopped the demo at {url} and removed its files.")
    return 0


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace, Output], int]]] = {
    "new": new,
    "check": check,
    "try": try_out,
    "publish": publish,
    "renew": renew,
    "autorenew": autorenew,
    "key": key,
    "status": status,
    "export": export,
    "pause": pause,
    "resume": resume,
    "archive": archive,
    "demo": demo,
}


def _definition(home: Home, options: argparse.Namespace) -> ProjectDefinition:
    from pleb_project.download import with_initial

    return with_initial(home, load_definition(options.folder, tuple(options.set)))


def _checked(
    home: Home,
    definition: ProjectDefinition,
    output: Output,
    *,
    reuse: bool,
    cpu_minutes: float,
    admit: Callable[[ProjectMetadata], None] = lambda _: None,
) -> tuple[CheckOutcome, BlobFolder]:
    with loading():
        from pleb_project.check.run import check_project
    from pleb_project.readers.blobs import BlobFolder

    blobs = BlobFolder(home.build_folder(definition.project.name))
    if not 0 < cpu_minutes < math.inf:
        raise InputError("--cpu-minutes must be a number over 0.")
    outcome = check_project(
        definition,
        blobs,
        output.progress,
        reuse=reuse,
        cpu_seconds=60 * cpu_minutes,
        admit=admit,
    )
    return outcome, blobs


def _coordinator(link: AttachLink) -> Coordinator:
    return Coordinator(Address(link.base_url, link.certificate))
