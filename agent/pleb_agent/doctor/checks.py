"""The checks of `pleb-agent doctor`: each tries one thing and reports what it found."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pleb_agent.client.coordinator import CoordinatorClient
from pleb_agent.control.controller import Autostart
from pleb_agent.control.live_preferences import read_preferences
from pleb_agent.control.status_reader import presence_sentence
from pleb_agent.core.preferences import default_preferences
from pleb_agent.core.readings import PresenceKind
from pleb_agent.core.trust import TrustedProject, clock_sentence
from pleb_agent.journal.keys import KeyStore
from pleb_agent.program.clock import system_clock
from pleb_agent.program.command import is_frozen
from pleb_agent.sensors.devices import find_cards
from pleb_agent.sensors.machine import free_disk_bytes
from pleb_agent.sensors.presence import PresenceSensor
from pleb_agent.worker.errors import WorkerError
from pleb_agent.worker.job import WorkerSettings
from pleb_agent.worker.process import WorkerProcess
from pleb_agent.worker.trial import TrialFailed, try_sandbox
from pleb_shared.errors import PlebError
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from pleb_agent.app.home import Home
    from pleb_agent.core.devices import FoundDevice
    from pleb_agent.journal.rows import ProjectRow
    from pleb_agent.sensors.machine import Machine
    from pleb_agent.worker.sandbox.attempts import Outcome

__all__ = [
    "OPEN_TO_DRIVERS",
    "Finding",
    "check_cards",
    "check_device",
    "check_home",
    "check_processors",
    "check_project",
    "check_session",
    "check_worker",
]

_INPUT_SECONDS: Final = 15.0
OPEN_TO_DRIVERS: Final = frozenset({"take memory by page tables", "take memory by pipes"})
"""What a card's worker can do beyond that of the processor: see docs/sandbox.md."""
_CLOCK_SECONDS: Final = LIMITS.clock_tolerance_seconds / 2


@dataclass(frozen=True)
class Finding:
    """What a check found. `sentence` says what to do if it is not well."""

    name: str
    is_well: bool
    sentence: str


def check_home(home: Home) -> list[Finding]:
    """Return the findings about disk, preferences and keys."""
    try:
        keep = read_preferences(home.preferences).keep_free_bytes
    except PlebError as error:
        disk = Finding("preferences", is_well=False, sentence=str(error))
    else:
        free = free_disk_bytes(home.path)
        advice = (
            "" if free >= keep else "; free some space, or lower the preference keep_free_bytes"
        )
        sentence = f"{free / 2**30:.1f} GiB are free in {home.path}{advice}."
        disk = Finding("disk", free >= keep, sentence)
    exposed = KeyStore(home.keys).exposed()
    sentence = "Only you can read the private keys."
    if exposed:
        sentence = f"Other users can read {', '.join(exposed)}: run chmod 600 in {home.keys}."
    return [disk, Finding("keys", not exposed, sentence)]


def check_processors(machine: Machine) -> Finding:
    """Return how many processors the agent may use, and what it makes of them."""
    shown = f"{machine.processors} processors"
    if machine.quota is not None:
        shown += f", of which a control group allows {machine.quota:g}"
    if machine.fast_cores is not None:
        shown += f", {machine.fast_cores} of them fast"
    usual = default_preferences(machine.cores, machine.fast_cores).threads
    threads = "1 thread" if usual == 1 else f"{usual} threads"
    sentence = f"This agent may use {shown}; without a choice of yours it computes with {threads}."
    if machine.quota is not None and machine.quota < 1:
        return Finding(
            "processors",
            is_well=False,
            sentence=f"{sentence} Units may take too long: allow at least one processor.",
        )
    return Finding("processors", is_well=True, sentence=sentence)


async def check_session(home: Home) -> list[Finding]:
    """Return how input is watched here, and whether the session starts the agent."""
    entries = Autostart(home.path, os.environ, headless=False).view()
    autostart = Finding("autostart", is_well=True, sentence=entries.sentence)
    reported = asyncio.Event()
    sensor = PresenceSensor(reported.set, clock=system_clock)
    watching = asyncio.create_task(sensor.run())
    try:
        async with asyncio.timeout(_INPUT_SECONDS):
            await reported.wait()  # the probe's first reading
    except TimeoutError:
        sentence = "The program that watches for input sends nothing; please report this as a bug."
        return [Finding("input", is_well=False, sentence=sentence), autostart]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    is_well = sensor.presence.kind is not PresenceKind.UNREADABLE
    return [Finding("input", is_well, presence_sentence(sensor.presence)), autostart]


def check_worker() -> list[Finding]:
    """Return which layers of the worker's sandbox hold, and what they deny.

    The attempts to break out are made in a child that restricts itself exactly as a worker does.
    """
    try:
        report = try_sandbox()
    except TrialFailed as error:
        return [Finding("sandbox", is_well=False, sentence=f"The trial failed: {error}")]
    layers = [Finding(layer.layer, layer.holds, layer.sentence) for layer in report.layers]
    return layers + [_attempt_finding(outcome) for outcome in report.outcomes]


async def check_device() -> list[Finding]:
    """Start a worker, and return what it computes on, or why it does not start.

    A packaged agent fetches its runtime and tries that by itself.
    """
    if is_frozen():
        return []
    with TemporaryDirectory() as folder:
        settings = WorkerSettings(threads=1, memory_bytes=2**28, low_priority=False)
        worker = WorkerProcess(Path(folder, "work"), settings)
        try:
            runtime = await worker.start()
        except WorkerError as error:
            return [Finding("device", is_well=False, sentence=str(error))]
        finally:
            await worker.close()
    sentence = f"{runtime.device.upper()} with {runtime.capability}, PyTorch {runtime.torch}."
    return [Finding("device", is_well=True, sentence=sentence)]


async def check_cards(home: Home) -> list[Finding]:
    """Return what each card of this PC can do, by a worker that is started on it.

    Only those are tried that the user lets compute. A packaged agent tries them by itself.
    """
    found: list[Finding] = []
    if is_frozen():
        return found
    try:
        preferences = read_preferences(home.preferences)
    except PlebError:
        return []  # said elsewhere
    for card in find_cards():
        if not preferences.use_gpu or card.name in preferences.devices_off:
            sentence = f"{card.title}: switched off (`use_gpu`, `devices_off`)."
            found.append(Finding(card.name, is_well=True, sentence=sentence))
            continue
        with TemporaryDirectory() as folder:
            settings = WorkerSettings(threads=1, memory_bytes=2**28, low_priority=False)
            worker = WorkerProcess(Path(folder, "work"), settings, card)
            try:
                runtime = await worker.start()
            except WorkerError as error:
                sentence = f"{card.title}: {error}"
                found.append(Finding(card.name, is_well=False, sentence=sentence))
            else:
                sentence = f"{card.title} with {runtime.capability}, PyTorch {runtime.torch}."
                found.append(Finding(card.name, is_well=True, sentence=sentence))
                found += _check_sandbox_of(card)
            finally:
                await worker.close()
    return found


def _check_sandbox_of(card: FoundDevice) -> list[Finding]:
    """Close a sandbox as the card's worker has it, try to break out, and start its driver inside.

    What the processor's findings say already is not said again.
    """
    name = f"{card.name} sandbox"
    try:
        report = try_sandbox(device=card, starts=True)
    except TrialFailed as error:
        return [Finding(name, is_well=False, sentence=f"The trial failed: {error}")]
    if report.driver:
        sentence = f"its driver does not start inside: {report.driver}"
        return [Finding(name, is_well=False, sentence=sentence)]
    open_to = {one.attempt for one in report.outcomes if one.after}
    more = ", ".join(sorted(open_to & OPEN_TO_DRIVERS))
    return [
        Finding(name, is_well=True, sentence=f"its driver starts inside; open to it: {more}."),
        *map(
            _attempt_finding,
            (one for one in report.outcomes if one.attempt in open_to - OPEN_TO_DRIVERS),
        ),
    ]


def _attempt_finding(outcome: Outcome) -> Finding:
    if outcome.after:
        return Finding(outcome.attempt, is_well=False, sentence="a worker could do this")
    if not outcome.before:
        sentence = f"could not be tried here, even without a sandbox: {outcome.reason}"
        return Finding(outcome.attempt, is_well=False, sentence=sentence)
    return Finding(outcome.attempt, is_well=True, sentence=f"denied: {outcome.reason}")


async def check_project(row: ProjectRow) -> Finding:
    """Try a project's coordinator: reach it, compare clocks, verify its metadata."""
    client = CoordinatorClient.for_link(row.attach_link)
    trust = TrustedProject(row.name, row.attach_link.root, row.host, row.memory)
    try:
        envelope = await client.metadata(row.name)
        difference = _clock_difference(client.last_date)
        if abs(difference) > _CLOCK_SECONDS:
            now = system_clock()
            sentence = clock_sentence(now - difference, now)
            return Finding(row.name, is_well=False, sentence=sentence)
        trust.update_metadata(envelope, system_clock())
    except PlebError as error:
        return Finding(row.name, is_well=False, sentence=str(error))
    finally:
        await client.close()
    return Finding(row.name, is_well=True, sentence=f"{row.base_url} answers correctly.")


def _clock_difference(date: str) -> float:
    """Return our clock minus the server's, in seconds; 0 if it sent no date."""
    try:
        return system_clock() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0
