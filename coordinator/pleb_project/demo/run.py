"""The demo from its first line to its last: start, train, catch the liar, compare, clean up."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import psutil
from rich.console import Console

from pleb_project.demo.outcome import Outcome, contributions, outcome_of, refused_results
from pleb_project.demo.screen import Screen
from pleb_project.processes import ChildProcess, Fleet, terminated_as_interrupt
from pleb_project.server.client import Address, Coordinator
from pleb_project.server.status import decode_status
from pleb_shared.errors import InputError, PlebError
from pleb_shared.protocol.ids import parse_attach_link
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["example_folder", "find_kept", "keep", "run_demo", "stop_demo"]

_PROJECT: Final = "digits"
_LIAR: Final = "liar"
_COLLUDERS: Final = ("colluder 1", "colluder 2")
"""Liars that tell the same lie at once and make up a determinism class of their own."""
_LIARS: Final = (_LIAR, *_COLLUDERS)
_POLL_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 900.0
"""It takes one to four minutes; a PC that is busy with other things may need longer."""
_PUBLISH_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 10.0


def run_demo(home: Path, *, keep_running: bool) -> int:
    """Run the demo and return its exit code: 0 only if it succeeded.

    Raises:
        InputError: a demo that was left running is still there.
        PlebError: a process failed, or the training did not end in time.
    """
    kept = find_kept(home)
    if kept is not None:
        raise InputError(f"A demo is running at {kept.url}: `pleb-project demo --stop` stops it.")
    folder = Path(tempfile.mkdtemp(prefix="pleb-demo-"))
    fleet = Fleet(folder)
    demo = _Demo(fleet, Console())
    staying = False
    with terminated_as_interrupt():
        try:
            outcome, url = demo.run()
            if keep_running:
                keep(home, folder, url, [child.pid for child in fleet.processes])
                staying = True
                demo.say(f"Still running at {url}. Stop it with: pleb-project demo --stop")
        finally:
            if not staying:
                fleet.stop()
                shutil.rmtree(folder, ignore_errors=True)
    print(msgspec.json.encode(outcome).decode(), flush=True)  # noqa: T201
    return 0 if outcome.succeeded else ExitCode.FAULT_FOUND


def example_folder(name: str) -> Path:
    """Return the folder of an example: beside the source, or inside the wheel.

    The wheel holds copies of those that the demo needs (`force-include` in pyproject.toml), so
    there is one source of them.

    Raises:
        InputError: neither is there.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "examples" / name, here.parents[2] / "examples" / name):
        if folder.is_dir():
            return folder
    raise InputError(f"The example {name!r} is missing: install pleb-cluster again.")


@dataclass
class _Demo:
    """The demo's steps; what they start belongs to `fleet`."""

    fleet: Fleet
    console: Console

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def run(self) -> tuple[Outcome, str]:
        started = time.monotonic()
        url = self.fleet.start_coordinator()
        page = f"{url}/projects/{_PROJECT}"
        self.say(f"Watch it live: {page}")
        self.say("Publishing handwritten digits: model, data, signed metadata ...")
        link = self.fleet.publish(example_folder(_PROJECT), url, _PUBLISH_SECONDS)
        self.say(f"Volunteers attach with:\n  {link}\n")
        self.fleet.start_agent("trusted", link, self.fleet.invite("trusted"))
        self.fleet.start_agent("honest", link)
        script = str(example_folder(_LIAR) / "liar.py")
        liars = {_LIAR: self.fleet.start_script(_LIAR, [script, link, "--name", _LIAR])}
        for name in _COLLUDERS:
            options = [script, link, "--name", name, "--together", "demo"]
            liars[name] = self.fleet.start_script(name.replace(" ", "-"), options)
        status, caught = self._train(link, liars, started)
        self._explain(caught)
        if status.target is not None:
            value = status.metrics.get(status.target.metric, 0.0)
            reached = status.target_reached_at_version
            when = "not reached" if reached is None else f"reached with version {reached}"
            target = f"the target of {status.target.value:g} was {when}"
            self.say(f"\nTest accuracy {value:.4f}; {target}.")
        counted = contributions(self.fleet, _PROJECT)
        central = self._train_centrally(sum(counted.values()))
        outcome = outcome_of(status, counted, central, time.monotonic() - started, _LIARS)
        self._compare(outcome, counted)
        return outcome, url

    def _train(
        self, link: str, liars: Mapping[str, ChildProcess], started: float
    ) -> tuple[ProjectStatus, dict[int, tuple[str, str]]]:
        """Show the project until its last version is measured.

        Returns:
            The last status, and all refused results of the liars: whose and why, by their unit.
        """
        parts = parse_attach_link(link)
        caught: dict[int, tuple[str, str]] = {}
        with (
            Coordinator(Address(parts.base_url, parts.certificate)) as coordinator,
            Screen(self.console) as screen,
        ):
            while True:
                status = decode_status(coordinator.status(_PROJECT))
                caught |= refused_results(status, _LIARS)
                gone = [name for name, liar in liars.items() if liar.exit_code is not None]
                screen.show(status, gone)
                if status.finished:
                    return status, caught
                for child in self.fleet.processes:
                    # That a liar ends once it is banned is right.
                    if child not in liars.values() or child.exit_code not in {None, 0}:
                        child.require_alive()
                if time.monotonic() - started > _MOST_SECONDS:
                    raise PlebError(
                        f"The demo did not end in {_MOST_SECONDS:.0f} s; this PC may be too busy. "
                        f"The coordinator's last lines:\n{self.fleet.processes[0].tail()}"
                    )
                time.sleep(_POLL_SECONDS)

    def _explain(self, caught: dict[int, tuple[str, str]]) -> None:
        """Print how a liar was caught, with the coordinator's own record of that unit."""
        if not caught:
            self.say("\nNo result of a liar was refused.")
            return
        unit, (name, reason) = next(iter(caught.items()))
        self.say(f"\nThe {name}'s result of unit {unit} was refused: {reason}")
        home = self.fleet.coordinator_home
        self.say(f"pleb-coordinator unit show {unit} --home {home}")
        for line in self.fleet.read("unit", "show", str(unit)).splitlines():
            self.say(f"  {line}")

    def _train_centrally(self, units: int) -> float:
        """Return the accuracy of the same model after as many steps in one process."""
        from pleb_project.check.draft import make_draft
        from pleb_project.check.learning import train_centrally
        from pleb_project.definition.load import load_definition
        from pleb_project.readers.blobs import BlobFolder

        self.say("Training the same model on as many samples in one place ...")
        blobs = BlobFolder(self.fleet.folder / "central")
        draft = make_draft(load_definition(example_folder(_PROJECT)), blobs)
        steps = max(1, units * draft.metadata.training.local_steps)
        return train_centrally(draft, blobs, steps)["accuracy"]

    def _compare(self, outcome: Outcome, counted: dict[str, int]) -> None:
        shares = ", ".join(f"{number} by {name}" for name, number in sorted(counted.items()))
        self.say(
            f"Test accuracy in one place: {outcome.central_accuracy:.4f}; by five hosts, three of "
            f"which lied: {outcome.test_accuracy:.4f}.\n"
            f"The model contains {outcome.units_verified} results ({shares}), "
            f"{outcome.liar_results_in_model} of them from liars; {outcome.liar_refused} of theirs "
            f"were refused, and {outcome.honest_refused} of honest hosts.\n\n"
            "Next: pleb-project new my-project (your own model and data), or\n"
            "      pleb-project demo --keep (keep the page open).",
        )


class KeptDemo(msgspec.Struct, frozen=True):
    """A demo's folder, its page, and its processes: pid and start time, which identify them."""

    folder: str
    url: str
    processes: list[tuple[int, float]]


def keep(home: Path, folder: Path, url: str, pids: Iterable[int]) -> None:
    """Record a demo that stays running."""
    started = [(pid, psutil.Process(pid).create_time()) for pid in pids if psutil.pid_exists(pid)]
    home.mkdir(parents=True, exist_ok=True)
    kept = KeptDemo(str(folder), url, started)
    _file(home).write_bytes(msgspec.json.encode(kept))


def find_kept(home: Path) -> KeptDemo | None:
    """Return the demo that was left running, if one was."""
    try:
        return msgspec.json.decode(_file(home).read_bytes(), type=KeptDemo)
    except FileNotFoundError:
        return None


def stop_demo(home: Path) -> str:
    """Stop a demo that was left running, remove its folder, and return the address that it had.

    Raises:
        InputError: none was left running.
    """
    kept = find_kept(home)
    if kept is None:
        raise InputError("No demo was left running: `pleb-project demo --keep` leaves one.")
    processes = [p for p in (_same(pid, start) for pid, start in kept.processes) if p]
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_STOP_SECONDS)
    for process in alive:
        process.kill()
    for _ in range(20):  # ending processes may still write to it
        shutil.rmtree(kept.folder, ignore_errors=True)
        if not Path(kept.folder).exists():
            break
        time.sleep(0.1)
    _file(home).unlink()
    return kept.url


def _same(pid: int, start: float) -> psutil.Process | None:
    """Return the process if it is the recorded one, not another with its number."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - start) < 1 else None
    except psutil.NoSuchProcess:
        return None


def _file(home: Path) -> Path:
    return home / "demo.json"
