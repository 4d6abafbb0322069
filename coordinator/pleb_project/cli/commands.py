"""What each command does. torch is imported only by those that need the model."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_project.definition.load import load_definition
from pleb_project.server.client import Address, Coordinator, parse_address
from pleb_project.server.records import read_reading_file
from pleb_shared.errors import InputError
from pleb_system.command_line import table
from pleb_system.durations import shown_day
from pleb_system.exit_codes import ExitCode
from pleb_system.start_up import loading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from pleb_project.check.run import CheckOutcome
    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.records import Home, ProjectRecord
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
    from pleb_project.readers.blobs import BlobFolder

    definition = _definition(home, options)
    blobs = BlobFolder(home.build_folder(definition.project.name))
    outcome = _checked(definition, blobs, output, reuse=False, cpu_minutes=options.cpu_minutes)
    from pleb_project.check.run import check_json, check_rows
    from pleb_project.family.rungs import early_rungs

    rows = list(check_rows(outcome))
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    warnings = (*outcome.warnings, *filter(None, (early_rungs(definition),)))
    lines += [f"! {warning}" for warning in warnings]
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
    if definition.sweep:
        raise InputError(
            "A sweep is not tried as a whole: leave [sweep] out, and give one trial's settings by "
            "--set."
        )
    if definition.project.access == "invited":
        overrides += ("project.access=public",)  # nobody else reaches the trial's coordinator
    if definition.data.where == "host":  # the trial's agent has none: it trains on the examples
        overrides += ("data.where=coordinator",)
    if definition.ensemble:
        overrides += ("ensemble.members=1",)
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

    with loading():
        from pleb_project.family.members import as_member, members_of
        from pleb_project.family.publishing import ensemble_drafts, publish_all
        from pleb_project.family.rungs import early_rungs
        from pleb_project.publish.rules import require_contact
    from pleb_project.readers.blobs import BlobFolder

    address = parse_address(options.to)
    definition = _definition(home, options)
    require_contact(definition.project.contact)
    with Coordinator(address) as coordinator:
        # Fail now, not after minutes of checking.
        publisher = publisher_of(coordinator, home, options, output)
        blobs = BlobFolder(home.build_folder(definition.project.name))
        member, *trials = members_of(definition)
        access = definition.project.access
        if access == "invited" and (trials or definition.ensemble):
            raise InputError(
                "A private project is published alone: leave out [ensemble] and [sweep], or "
                'access = "invited".'
            )
        if warning := early_rungs(definition):
            output.progress(f"! {warning}")
        answer = publisher.prepare(member.project.name, options.invite, access)

        def admit(draft: ProjectMetadata) -> None:
            draft = as_member(draft, definition, blobs)
            publisher.check_epoch(draft, new_epoch=options.new_epoch, access=access, blobs=blobs)

        outcome = _checked(
            member, blobs, output, reuse=True, cpu_minutes=options.cpu_minutes, admit=admit
        )
        for warning in outcome.warnings:
            output.progress(f"! {warning}")
        is_trial = definition.sweep is not None and outcome.tolerance.separates
        if not (outcome.passed or is_trial or options.unchecked):
            output.progress("Not published: fix what the check found, or add --unchecked.")
            return ExitCode.FAULT_FOUND
        shards = outcome.draft.dataset.shards
        size = sum(shard.size for shard in [*shards.train, *shards.holdout])
        if not answer.number and size > answer.free_bytes:
            raise InputError(
                f"The project's data have {size / 1e6:,.0f} MB, and the coordinator has only "
                f"{answer.free_bytes / 1e6:,.0f} MB of free space: ask its operator for more."
            )
        drafts = [as_member(outcome.metadata, definition, blobs)]
        if definition.sweep is None:
            drafts = ensemble_drafts(definition, drafts[0], blobs, output.progress)
        else:
            drafts += [
                as_member(metadata, definition, blobs)
                for metadata in _checked_trials(trials, blobs, output, options)
            ]
        record, *others = publish_all(
            publisher,
            drafts,
            blobs,
            invite=options.invite,
            new_epoch=options.new_epoch,
            access=access,
        )
    _show_published(output, definition, record, others)
    return 0


def _show_published(
    output: Output,
    definition: ProjectDefinition,
    record: ProjectRecord,
    others: Sequence[ProjectRecord],
) -> None:
    access = definition.project.access
    value: dict[str, Any] = {
        "project": record.project,
        "attach_link": record.attach_link,
        "access": access,
    }
    if others:
        value["family"] = definition.project.name
        value["members"] = [one.project for one in (record, *others)]
    told = f"Published{f' {len(others) + 1} members' if others else ''}. Volunteers attach with:"
    if access == "invited":
        told = (
            "Published as a private project. Members attach with this link and an invite, which "
            f"its operator makes: `pleb-coordinator invite new --project {record.project}`."
        )
    output.result(
        value,
        [
            told,
            f"  {record.attach_link}",
            (
                f"The coordinator may issue work until {shown_day(record.permission_ends_at)}; "
                "`pleb-project autorenew on` renews that while this PC is on."
            ),
        ],
    )


def renew(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Sign the delegation again: of one project, of all, or of what is due."""
    from pleb_project.cli.keys import publisher_of
    from pleb_project.cli.renewing import renew_all_due, watch_due

    if options.watch or options.due:
        if options.project is not None:
            raise InputError("--due and --watch are for all projects: leave out PROJECT.")
        act = watch_due if options.watch else renew_all_due
        return act(home, options, output)
    if options.project is not None:
        links = home.find_all(options.project)
    elif not (links := [record.link for record in home.records()]):
        raise InputError(f"No project was published from {home.path}: give --home.")
    records = []
    for link in links:
        with _coordinator(home, link, options) as coordinator:
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
    output.result(values if options.project is None or len(values) > 1 else values[0], lines)
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
    from pleb_project.server.status import watch_projects

    links = home.find_all(options.project)
    names = [link.project for link in links]
    with _coordinator(home, links[0], options) as coordinator:
        watch_projects(coordinator, names, output.result, time.sleep, forever=options.watch)
    return 0


def export(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Download a version, or an average that ends with it."""
    from pleb_project.download import download_model, parse_wanted

    wanted = parse_wanted("best" if options.best else options.version)
    wanted = dataclasses.replace(wanted, ema=options.ema)
    link, *others = home.find_all(options.project)
    if others:
        from pleb_project.family.download import download_members

        with _coordinator(home, link, options) as coordinator:
            members = download_members(coordinator, [link, *others], options.file, wanted)
        values = [{"project": name, **dataclasses.asdict(one)} for name, one in members.items()]
        lines = [f"Wrote {len(members)} members, and what averages them, to {options.file}:"]
        lines += [f"  {name}: version {one.version}" for name, one in members.items()]
        output.result({"folder": str(options.file), "members": values}, lines)
        return 0
    with _coordinator(home, link, options) as coordinator:
        saved = download_model(coordinator, link, options.file, wanted)
    what = (
        "version" if options.ema is None else f"the average (decay {options.ema:g}) up to version"
    )
    output.result(
        {"file": str(options.file), **dataclasses.asdict(saved), "ema": options.ema},
        f"Wrote {what} {saved.version} ({saved.tensors} tensors) to {options.file}",
    )
    return 0


def evaluate(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Measure the members of an ensemble and the mean of their predictions on the holdout."""
    from pleb_project.download import parse_wanted

    with loading():
        from pleb_project.family.evaluating import evaluate_published

    wanted = parse_wanted("best" if options.best else options.version)
    definition = load_definition(options.folder, tuple(options.set))
    links = home.find_all(options.project or definition.project.name)
    with _coordinator(home, links[0], options) as coordinator:
        found = evaluate_published(coordinator, links, definition, wanted, output.progress)
    names = sorted(found.average)
    rows: list[tuple[object, ...]] = [
        (one.project, one.version, *(f"{one.metrics[name]:.5g}" for name in names))
        for one in found.members
    ]
    rows.append(("average", "", *(f"{found.average[name]:.5g}" for name in names)))
    lines = table(("MEMBER", "VERSION", *(name.upper() for name in names)), rows, "")
    gain = 1 - found.average["loss"] / min(one.metrics["loss"] for one in found.members)
    side = "below" if gain > 0 else "above"
    lines.append(f"The average's loss is {abs(gain):.1%} {side} that of the best member.")
    output.result(dataclasses.asdict(found), lines)
    return 0


def distill(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Write a student of an ensemble, as the model of another project."""
    from pleb_project.download import parse_wanted
    from pleb_project.family.distilling import STUDENT, download_teacher

    wanted = parse_wanted("best" if options.best else options.version)
    definition = load_definition(options.folder, tuple(options.set))
    links = home.find_all(options.project or definition.project.name)
    with _coordinator(home, links[0], options) as coordinator:
        files = download_teacher(coordinator, links, definition, wanted, scores=not options.values)
    student = Path(definition.model.file).with_name(STUDENT)
    name = f"{definition.project.name}-student"
    settings = (f"model.file={student}", "ensemble.members=1", f"project.name={name}")
    given = " ".join(f"--set {setting}" for setting in settings)
    lines = [f"Wrote {file}" for file in files]
    lines.append(f"Next: pleb-project check {options.folder} {given}, then publish it likewise")
    output.result({"files": [str(file) for file in files], "settings": settings}, lines)
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

    values = []
    for link in home.find_all(options.project):
        with _coordinator(home, link, options) as coordinator:
            publisher = publisher_of(coordinator, home, options, output)
            publisher.set_activity(link.project, activity, note)
            state = decode_status(coordinator.status(link.project)).state
        values.append({"project": link.project, "state": state})
    lines = [f"{value['project']} is {value['state']}." for value in values]
    output.result(values[0] if len(values) == 1 else values, [*lines, _DONE[activity]])
    return 0


def move(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Go on with a project at another coordinator."""
    from pleb_project.cli.moving import move

    return move(home, options, output)


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
    "evaluate": evaluate,
    "distill": distill,
    "pause": pause,
    "resume": resume,
    "archive": archive,
    "move": move,
    "demo": demo,
}


def _definition(home: Home, options: argparse.Namespace) -> ProjectDefinition:
    from pleb_project.download import with_initial

    return with_initial(home, load_definition(options.folder, tuple(options.set)))


def _checked(
    definition: ProjectDefinition,
    blobs: BlobFolder,
    output: Output,
    *,
    reuse: bool,
    cpu_minutes: float,
    admit: Callable[[ProjectMetadata], None] = lambda _: None,
) -> CheckOutcome:
    with loading():
        from pleb_project.check.run import check_project

    if not 0 < cpu_minutes < math.inf:
        raise InputError("--cpu-minutes must be a number over 0.")
    return check_project(
        definition,
        blobs,
        output.progress,
        reuse=reuse,
        cpu_seconds=60 * cpu_minutes,
        admit=admit,
    )


def _checked_trials(
    trials: list[ProjectDefinition], blobs: BlobFolder, output: Output, options: argparse.Namespace
) -> list[ProjectMetadata]:
    """Return the metadata of trials, each measured by itself; that one learns badly is no fault.

    Raises:
        InputError: results of one cannot be compared, and `--unchecked` was not given.
    """
    drafts = []
    for trial in trials:
        output.progress(f"{trial.project.title}:")
        outcome = _checked(trial, blobs, output, reuse=True, cpu_minutes=options.cpu_minutes)
        for warning in outcome.warnings:
            output.progress(f"! {warning}")
        if not (outcome.tolerance.separates or options.unchecked):
            raise InputError(f"{trial.project.title} is not published: see the lines with '!'.")
        drafts.append(outcome.metadata)
    return drafts


def _coordinator(home: Home, link: AttachLink, options: argparse.Namespace) -> Coordinator:
    """Return the client of a link's coordinator, as whom the project may be read."""
    file: Path | None = getattr(options, "reading", None)
    reading = home.reading(link.project) if file is None else read_reading_file(file)
    return Coordinator(Address(link.base_url, link.certificate), reading)
