"""The commands that control a running agentd, or change the home directly if none is running."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.app.remote import NotRunningError, Remote
from pleb_agent.cli.show import (
    clock_time,
    device_lines,
    habit_lines,
    log_line,
    project_lines,
    status_lines,
    unit_lines,
)
from pleb_shared.errors import InputError
from pleb_system.durable import write_durably
from pleb_system.processes import is_alive

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from pleb_agent.app.home import Home
    from pleb_agent.journal.journal import Journal
    from pleb_shared.protocol.ids import AttachLink
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "held_journal"]

_WATCH_SECONDS: Final = 1.0


def attach(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Join a project."""
    try:
        request = {"link": options.link, "invite": options.invite, "name": options.name}
        request["only"] = options.only
        row = Remote(home).post("attach", **request)
    except NotRunningError:
        from pleb_agent.client.coordinator import CoordinatorClient
        from pleb_agent.client.network import Network
        from pleb_agent.control.live_preferences import read_preferences
        from pleb_agent.journal.keys import KeyStore
        from pleb_agent.loop.attach import Attaching
        from pleb_agent.program.clock import system_clock

        preferences = read_preferences(home.preferences)
        with held_journal(home) as journal:
            keys = KeyStore(home.keys)
            network = Network.following(lambda: preferences)

            def client(link: AttachLink) -> CoordinatorClient:
                return CoordinatorClient.for_link(link, network)

            attach = Attaching(journal, keys, system_clock, client).attach
            added = asyncio.run(
                attach(options.link, invite=options.invite, name=options.name, only=options.only)
            )
        row = {
            "project": added.name,
            "url": added.base_url,
            "host": added.host,
            "role": added.role,
            "family": added.family,
        }
    role = " as a trusted host" if row["role"] == "trusted" else ""
    what = row["project"] if options.only or not row["family"] else f"all of {row['family']}"
    output.result(row, f"Attached to {what}{role}.")
    return 0


def detach(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Leave a project; without an agentd, one that holds units returns them at the next start."""
    try:
        left = Remote(home).post("detach", project=options.project)
    except NotRunningError:
        from pleb_agent.control.journal_reader import find_all_attached
        from pleb_agent.journal.keys import KeyStore
        from pleb_agent.loop.attach import leave_host

        with held_journal(home) as journal:
            rows = find_all_attached(journal, options.project)
            for row in rows:
                hosts = journal.hosts(row.id)
                if any(journal.open_assignments(host.id) for host in hosts):
                    journal.mark_detaching(row.id)
                else:
                    for host in hosts:
                        leave_host(journal, KeyStore(home.keys), host)
        left = {"project": rows[0].name, "family": rows[0].family}
    whole = left["family"] == options.project
    output.result(left, f"Left {f'all of {options.project}' if whole else left['project']}.")
    return 0


def projects(home: Home, _: argparse.Namespace, output: Output) -> int:
    """List the attached projects."""
    found = _status(home)["projects"]
    lines = project_lines(found) or ["No project is attached: `pleb-agent attach LINK`."]
    output.result({"projects": found}, lines)
    return 0


def link(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Print the text that joins another PC to this account."""
    answer = Remote(home).post("link", project=options.project)
    output.result(answer, f"{answer['sentence']}\n\n{answer['text']}")
    return 0


def reader(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Print the address of a private project's page, and write by what the project is read."""
    answer = Remote(home).post("reader", project=options.project)
    lines = [
        (
            "Open the project's page with this address. It is a secret, like a password: anyone "
            "who has it can read the project as you."
        ),
        "",
        f"  {answer['page']}",
    ]
    if options.to is not None:
        try:
            write_durably(options.to, answer["reading"].encode(), private=True)
        except OSError as error:
            raise InputError(f"{options.to} cannot be written: {error.strerror}.") from error
        lines += ["", f"Its model: pleb-project export '{answer['link']}' --reading {options.to}"]
    output.result(answer, lines)
    return 0


def data(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Choose the folder with the user's own data for a project, show it, or forget it."""
    folder = "" if options.folder is None else str(options.folder.expanduser().absolute())
    if folder and options.forget:
        raise InputError("`--forget` takes no folder: it is the one that is chosen.")
    try:
        view = Remote(home).post(
            "own-data", project=options.project, folder=folder, forget=options.forget
        )
    except NotRunningError:
        import msgspec

        from pleb_agent.control.own_data import OwnDataControl
        from pleb_agent.journal.keys import KeyStore

        with held_journal(home) as journal:
            control = OwnDataControl(journal, KeyStore(home.keys), home.work)
            if options.forget:
                found = control.forget(options.project)
            elif folder:
                found = asyncio.run(control.choose(options.project, folder))
            else:
                found = control.show(options.project)
        view = msgspec.to_builtins(found)
    output.result(view, view["sentence"])
    return 0


def status(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show what the agent is doing; with --watch again whenever it changes."""
    printed = None
    while True:
        found = _status(home)
        lines = [json.dumps(found)] if output.as_json else status_lines(found)
        if lines != printed:
            output.result(found, lines)
            printed = lines
        if not options.watch:
            return 0
        time.sleep(_WATCH_SECONDS)


def pause(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Pause the agent, even one that is started later."""
    from pleb_agent.program.clock import system_clock

    if options.finish:
        return _finish(home, options, output)
    until = None if options.seconds is None else system_clock() + options.seconds
    try:
        answer = Remote(home).post("pause", seconds=options.seconds, devices=options.devices)
    except NotRunningError:
        from pleb_agent.control.overrides import Overrides
        from pleb_agent.sensors.devices import devices_named, find_cards

        devices = devices_named(options.devices, find_cards() if options.devices else [])
        with held_journal(home) as journal:
            Overrides(journal).pause(until, devices)
        answer = {"paused": True, "until": until}
    what = f"Paused: {', '.join(options.devices)}" if options.devices else "The agent is paused"
    ends = "" if until is None else f" until {clock_time(until, system_clock())}"
    output.result(answer, f"{what}{ends}; `pleb-agent resume` ends the pause.")
    return 0


def _finish(home: Home, options: argparse.Namespace, output: Output) -> int:
    if options.seconds is not None or options.devices:
        raise InputError("`pause --finish` pauses the whole PC until you resume: give it alone.")
    answer = Remote(home).post("finish")
    output.result(
        answer,
        "The agent takes no new work, finishes what is in hand and then pauses; "
        "`pleb-agent resume` ends that.",
    )
    return 0


def new_work(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Take no further units of a project, or take them again."""
    allow = options.command == "allow-new-work"
    try:
        answer = Remote(home).post("new-work", project=options.project, allow=allow)
    except NotRunningError:
        from pleb_agent.control.journal_reader import find_all_attached

        with held_journal(home) as journal:
            given = find_all_attached(journal, options.project) if options.project else None
            for row in given or journal.projects():
                journal.set_no_new_work(row.id, on=not allow)
        answer = {"project": options.project, "no_new_work": not allow}
    whom = options.project or "any project"
    said = "The agent takes new work again" if allow else "The agent takes no new work"
    output.result(answer, f"{said} from {whom}.")
    return 0


def habits(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show for how long this PC usually stays free, or forget it."""
    from pleb_agent.program.clock import system_clock

    now = system_clock()
    try:
        remote = Remote(home)
        found = remote.post("forget-habits") if options.forget else remote.get("habits")
    except NotRunningError:
        import msgspec

        from pleb_agent.control.journal_reader import JournalReader
        from pleb_agent.control.live_preferences import read_preferences
        from pleb_agent.journal.keys import KeyStore

        with held_journal(home) as journal:
            if options.forget:
                journal.forget_habits(now)
            reader = JournalReader(journal, KeyStore(home.keys))
            found = msgspec.to_builtins(reader.habits(read_preferences(home.preferences), now))
    output.result(found, habit_lines(found))
    return 0


def units(home: Home, options: argparse.Namespace, output: Output) -> int:
    """List units of one part; or pause one that is in hand, resume it, hand it back."""
    from pleb_agent.program.clock import system_clock

    if options.act != "list":
        return _act_on_unit(home, options, output)
    try:
        found = Remote(home).get(f"units?part={options.part}")
    except NotRunningError:
        import msgspec

        from pleb_agent.control.journal_reader import JournalReader
        from pleb_agent.core.unit_parts import UnitPart
        from pleb_agent.journal.keys import KeyStore

        with held_journal(home) as journal:
            view = JournalReader(journal, KeyStore(home.keys)).units(UnitPart(options.part))
        found = msgspec.to_builtins(view)
    output.result(found, unit_lines(found, system_clock()))
    return 0


def _act_on_unit(home: Home, options: argparse.Namespace, output: Output) -> int:
    from pleb_agent.core.unit_parts import UnitAct

    if options.id is None:
        raise InputError(f"Say which unit: `pleb-agent units {options.act} ID`.")
    act = UnitAct(options.act)
    try:
        Remote(home).post("unit", id=options.id, act=act.value)
    except NotRunningError:
        with held_journal(home) as journal:
            if not journal.hold_unit(options.id, act.held):
                raise InputError(
                    f"Unit {options.id} is not in hand: `pleb-agent units` lists those that are."
                ) from None
    said = {
        UnitAct.PAUSE: "is paused; its deadline goes on",
        UnitAct.RESUME: "is computed when its turn comes",
        UnitAct.ABORT: "is handed back, and goes to another PC",
    }[act]
    output.result({"id": options.id, "act": act.value}, f"Unit {options.id} {said}.")
    return 0


def resume(home: Home, options: argparse.Namespace, output: Output) -> int:
    """End a pause or a boost; or the pauses of some devices."""
    try:
        answer = Remote(home).post("resume", devices=options.devices)
    except NotRunningError:
        from pleb_agent.control.overrides import Overrides
        from pleb_agent.sensors.devices import devices_named, find_cards

        devices = devices_named(options.devices, find_cards() if options.devices else [])
        with held_journal(home) as journal:
            Overrides(journal).resume(devices)
        answer = {"paused": False}
    output.result(answer, "Resumed.")
    return 0


def devices(home: Home, _: argparse.Namespace, output: Output) -> int:
    """List the devices of this PC; of a running agent, with what each does and why."""
    from pleb_agent.core.devices import PROCESSOR
    from pleb_agent.sensors.devices import find_cards

    try:
        found = Remote(home).get("status")["devices"]
    except NotRunningError:
        found = []
    if not found:
        found = [{"name": one.name, "title": one.title} for one in (PROCESSOR, *find_cards())]
    output.result({"devices": found}, device_lines(found))
    return 0


def boost(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Run now, even while the PC is in use."""
    answer = Remote(home).post("boost", seconds=options.seconds)
    minutes = max(1, round(options.seconds / 60))
    output.result(answer, f"The agent runs for {minutes} min, even while the PC is in use.")
    return 0


def stop(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Stop the agent and wait until it has stopped."""
    remote = Remote(home)
    answer = remote.post("stop", finish=options.finish)
    while home.control.exists() and is_alive(remote.pid):
        time.sleep(0.05)
    output.result(answer, "The agent has stopped.")
    return 0


def logs(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Show the last lines of the log, with --json as they are in the file."""
    try:
        with home.log.open(encoding="utf-8") as file:
            lines = deque(file, maxlen=options.lines)
    except FileNotFoundError as error:
        raise InputError(f"There is no log in {home.path} yet: start the agent.") from error
    print("\n".join(line.rstrip("\n") if output.as_json else log_line(line) for line in lines))
    return 0


COMMANDS: Final[dict[str, Callable[[Home, argparse.Namespace, Output], int]]] = {
    "attach": attach,
    "detach": detach,
    "projects": projects,
    "link": link,
    "reader": reader,
    "data": data,
    "status": status,
    "pause": pause,
    "resume": resume,
    "boost": boost,
    "devices": devices,
    "habits": habits,
    "no-new-work": new_work,
    "allow-new-work": new_work,
    "units": units,
    "stop": stop,
    "logs": logs,
}


def _status(home: Home) -> dict[str, Any]:
    """Return agentd's status, or what the home says if agentd is not running.

    Raises:
        NotRunningError: it is not running and the home has no journal, or it is starting.
    """
    try:
        return Remote(home).get("status")
    except NotRunningError:
        if not home.journal.exists():
            raise
        import msgspec

        from pleb_agent.control.journal_reader import JournalReader
        from pleb_agent.control.live_preferences import read_preferences
        from pleb_agent.journal.keys import KeyStore
        from pleb_system.lock import HomeInUseError

        try:
            with held_journal(home) as journal:
                preferences = read_preferences(home.preferences)
                view = JournalReader(journal, KeyStore(home.keys)).status(preferences)
        except HomeInUseError as error:
            raise NotRunningError(
                "The agent is starting, or busy; try again in a moment."
            ) from error
        value: dict[str, Any] = msgspec.to_builtins(view)
        return value


@contextmanager
def held_journal(home: Home) -> Iterator[Journal]:
    """The home's journal while no agentd holds it."""
    from pleb_agent.journal.journal import Journal

    home.prepare()
    with home.hold():
        journal = Journal(home.journal)
        try:
            yield journal
        finally:
            journal.close()
