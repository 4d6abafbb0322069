"""What each command does. torch is imported only by those that need the model."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final

from pleb_project.cli.output import Output
from pleb_project.definition.load import load_definition
from pleb_project.server.address import Address, parse_address
from pleb_project.server.client import Coordinator
from pleb_project.server.records import Home

if TYPE_CHECKING:
    import argparse

    from pleb_project.check.run import CheckOutcome
    from pleb_project.definition.fields import ProjectDefinition
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.ids import AttachLink

__all__ = ["check", "demo", "export", "new", "publish", "renew", "status", "try_out"]

_NOT_PASSED: Final = 6


def new(arguments: argparse.Namespace) -> int:
    """Write a template."""
    from pleb_project.template import write_template

    files = write_template(arguments.folder)
    Output(arguments.json).result(
        {"files": [str(file) for file in files]},
        [f"Wrote {file}" for file in files]
        + [f"Next: pleb-project check {arguments.folder}, and try instead of check"],
    )
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Check a project and say what was found."""
    from pleb_project.check.report import check_json, check_rows

    output = Output(arguments.json)
    outcome, _ = _checked(arguments, output)
    lines = output.table(check_rows(outcome))
    lines += [f"! {warning}" for warning in outcome.warnings]
    lines.append(
        "Ready to try and to publish." if outcome.passed else "Not ready: see the lines with '!'."
    )
    output.result(check_json(outcome), lines)
    return 0 if outcome.passed else _NOT_PASSED


def try_out(arguments: argparse.Namespace) -> int:
    """Train some versions with a throw-away coordinator and an agent."""
    from pleb_project.tryout.run import try_project

    output = Output(arguments.json)
    definition = _definition(arguments)
    result = try_project(arguments.folder, tuple(arguments.set), arguments.versions, output.say)
    output.result(
        {"project": definition.project.name, **result},
        [f"{definition.project.name}: {result['versions']} versions in {result['seconds']:.0f} s"],
    )
    return 0


def publish(arguments: argparse.Namespace) -> int:
    """Check, sign and hand in a project."""
    from pleb_project.publish.flow import Publisher

    output, home = Output(arguments.json), Home(arguments.home)
    address = parse_address(arguments.to)
    with Coordinator(address) as coordinator:
        coordinator.info()  # before minutes of checking: is anybody there?
        outcome, blobs = _checked(arguments, output)
        for warning in outcome.warnings:
            output.say(f"! {warning}")
        if not (outcome.passed or arguments.unchecked):
            output.say("Not published: mend what the check found, or add --unchecked.")
            return _NOT_PASSED
        publisher = Publisher(coordinator, home, _seconds, output.say)
        record = publisher.publish(
            outcome.metadata, blobs, invite=arguments.invite, new_epoch=arguments.new_epoch
        )
    output.result(
        {"project": record.project, "attach_link": record.attach_link},
        [f"Published. Volunteers attach with:\n  {record.attach_link}"],
    )
    return 0


def renew(arguments: argparse.Namespace) -> int:
    """Sign the delegation again."""
    from pleb_project.publish.flow import Publisher

    output, home = Output(arguments.json), Home(arguments.home)
    link = home.find(arguments.project)
    with _coordinator(link) as coordinator:
        record = Publisher(coordinator, home, _seconds, output.say).renew(link.project)
    output.result(
        {"project": record.project, "attach_link": record.attach_link},
        [f"Renewed for 30 days. The attach link stays:\n  {record.attach_link}"],
    )
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Show the project's status once, or until it is finished."""
    from pleb_project.watch.follow import watch_project

    link = Home(arguments.home).find(arguments.project)
    output = Output(arguments.json)
    with _coordinator(link) as coordinator:
        watch_project(coordinator, link.project, output.result, time.sleep, forever=arguments.watch)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Download the newest version."""
    from pleb_project.download.model import download_model

    link, output = Home(arguments.home).find(arguments.project), Output(arguments.json)
    with _coordinator(link) as coordinator:
        saved = download_model(coordinator, link, arguments.file)
    output.result(
        {"file": str(arguments.file), **dataclasses.asdict(saved)},
        [f"Wrote version {saved.version} ({saved.tensors} tensors) to {arguments.file}"],
    )
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """Run, or end, the demo."""
    from pleb_project.demo.run import run_demo, stop_demo

    if arguments.stop:
        url = stop_demo(arguments.home)
        lines = [f"Ended the demo at {url} and removed its files."]
        Output(arguments.json).result({"stopped": url}, lines)
        return 0
    return run_demo(arguments.home, keep_running=arguments.keep)


def _seconds() -> float:
    """Return the seconds since 1970: the one place where this program reads the clock."""
    return time.time()  # noqa: TID251


def _definition(arguments: argparse.Namespace) -> ProjectDefinition:
    return load_definition(arguments.folder, tuple(arguments.set))


def _checked(arguments: argparse.Namespace, output: Output) -> tuple[CheckOutcome, BlobFolder]:
    definition = _definition(arguments)
    from pleb_project.check.run import check_project
    from pleb_project.readers.blobs import BlobFolder

    blobs = BlobFolder(Home(arguments.home).build_folder(definition.project.name))
    return check_project(definition, blobs, output.say), blobs


def _coordinator(link: AttachLink) -> Coordinator:
    return Coordinator(Address(link.base_url, link.certificate))
