"""The demo from its first line to its last: start, train, catch the liar, compare, clean up."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.console import Console

from pleb_project.demo.fleet_watch import FleetWatch, snapshot_of
from pleb_project.demo.kept import end_kept, find_kept, keep
from pleb_project.demo.outcome import Demonstration, Outcome, explanation, outcome_of
from pleb_project.demo.places import example_folder
from pleb_project.demo.record import contributions
from pleb_project.demo.view import Screen
from pleb_project.processes import ChildProcess, Fleet, project_command, run_json
from pleb_project.server.client import Address, Coordinator
from pleb_shared.errors import InputError, PlebError
from pleb_shared.protocol.ids import parse_attach_link
from pleb_system.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["run_demo", "stop_demo"]

_PROJECT: Final = "digits"
_LIAR: Final = "liar"
_POLL_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 270.0
"""The training must have ended by then, so that the demo stays within five minutes."""
_PUBLISH_SECONDS: Final = 180.0


def run_demo(home: Path, *, keep_running: bool) -> int:
    """Run the demo and return its exit code: 0 only if it kept its promise.

    Raises:
        InputError: a demo that was left running is still there.
        PlebError: a process failed, or the training did not end in time.
    """
    kept = find_kept(home)
    if kept is not None:
        raise InputError(f"A demo still runs at {kept.url}: `pleb-project demo --stop` ends it.")
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="pleb-demo-"))
    fleet = Fleet(folder)
    staying = False
    with _terminated_as_interrupt():
        try:
            outcome, url = _Demo(fleet, console).run()
            if keep_running:
                keep(home, folder, url, [child.pid for child in fleet.processes])
                staying = True
                _print(console, f"Still running at {url}. End it with: pleb-project demo --stop")
        finally:
            if not staying:
                fleet.stop()
                shutil.rmtree(folder, ignore_errors=True)
    print(msgspec.json.encode(outcome).decode(), flush=True)  # noqa: T201
    return 0 if outcome.kept_its_promise else ExitCode.FAULT_FOUND


def stop_demo(home: Path) -> str:
    """End a demo that was left running and return the address that it had.

    Raises:
        InputError: none was left running.
    """
    return end_kept(home).url


@dataclass
class _Demo:
    """The demo's steps; what they start belongs to `fleet`."""

    fleet: Fleet
    console: Console

    def run(self) -> tuple[Outcome, str]:
        started = time.monotonic()
        url = self.fleet.start_coordinator()
        page = f"{url}/projects/{_PROJECT}"
        _print(self.console, f"Watch it live: {page}")
        _print(self.console, "Publishing handwritten digits: model, data, signed metadata ...")
        link = self._publish(url)
        _print(self.console, f"Volunteers attach with:\n  {link}\n")
        agents = self._start_agents(link)
        watch = FleetWatch(_LIAR)
        status = self._train(link, agents, watch, started)
        self._explain(watch)
        self._report_target(status)
        counted = contributions(self.fleet, _PROJECT)
        central = self._central(sum(counted.values()))
        found = Demonstration(status, counted, central, time.monotonic() - started)
        outcome = outcome_of(found, _LIAR)
        self._compare(outcome, counted)
        return outcome, url

    def _publish(self, url: str) -> str:
        command = project_command(
            *("publish", str(example_folder(_PROJECT)), "--to", url),
            *("--invite", self.fleet.invite("publisher")),
            *("--home", str(self.fleet.folder / "researcher"), "--json"),
        )
        answer: dict[str, Any] = run_json("pleb-project publish", command, _PUBLISH_SECONDS)
        return str(answer["attach_link"])

    def _start_agents(self, link: str) -> dict[str, ChildProcess]:
        fleet = self.fleet
        script = example_folder(_LIAR) / "liar.py"
        return {
            "trusted": fleet.start_agent("trusted", link, fleet.invite("trusted")),
            "honest": fleet.start_agent("honest", link),
            _LIAR: fleet.start_script(_LIAR, [str(script), link, "--name", _LIAR]),
        }

    def _train(
        self, link: str, agents: dict[str, ChildProcess], watch: FleetWatch, started: float
    ) -> ProjectStatus:
        """Show the project until its last version is measured; return its last status."""
        parts = parse_attach_link(link)
        liar = agents[_LIAR]
        with (
            Coordinator(Address(parts.base_url, parts.certificate)) as coordinator,
            Screen(self.console) as screen,
        ):
            while True:
                status = watch.read(coordinator.status(_PROJECT))
                screen.show(snapshot_of(status, {_LIAR: liar.exit_code is None}))
                if status.finished:
                    return status
                self._require_alive(liar)
                if time.monotonic() - started > _MOST_SECONDS:
                    raise PlebError(
                        f"The demo did not end in {_MOST_SECONDS:.0f} s; this PC may be too busy. "
                        f"The coordinator's last lines:\n{self.fleet.processes[0].tail()}"
                    )
                time.sleep(_POLL_SECONDS)

    def _require_alive(self, liar: ChildProcess) -> None:
        """Raise if a process failed; that the liar ends once it is banned is right."""
        for child in self.fleet.processes:
            if child is not liar or child.exit_code not in {None, 0}:
                child.require_alive()

    def _explain(self, watch: FleetWatch) -> None:
        caught = next(iter(watch.caught.values()), None)
        _print(self.console, f"\n{explanation(caught, _LIAR)}")
        if caught is not None:
            home = self.fleet.coordinator_home
            _print(self.console, f"pleb-coordinator unit show {caught.unit} --home {home}")
            for line in self.fleet.read("unit", "show", str(caught.unit)).splitlines():
                _print(self.console, f"  {line}")

    def _report_target(self, status: ProjectStatus) -> None:
        if status.target is None:
            return
        value = status.metrics.get(status.target.metric, 0.0)
        reached = status.target_reached_at_version
        told = "not reached" if reached is None else f"reached with version {reached}"
        _print(
            self.console,
            f"\nTest accuracy {value:.4f}; the target of {status.target.value:g} was {told}.",
        )

    def _central(self, units: int) -> float:
        """Return the accuracy of the same model after as many steps in one process."""
        from pleb_project.check.central import train_centrally
        from pleb_project.check.draft import make_draft
        from pleb_project.definition.load import load_definition
        from pleb_project.readers.blobs import BlobFolder

        _print(self.console, "Training the same model on as many samples in one place ...")
        blobs = BlobFolder(self.fleet.folder / "central")
        draft = make_draft(load_definition(example_folder(_PROJECT)), blobs)
        steps = max(1, units * draft.metadata.training.local_steps)
        return train_centrally(draft, blobs, steps)["accuracy"]

    def _compare(self, outcome: Outcome, counted: dict[str, int]) -> None:
        shares = ", ".join(f"{number} by {name}" for name, number in sorted(counted.items()))
        _print(
            self.console,
            f"Test accuracy in one place: {outcome.central_accuracy:.4f}; by three hosts, one of "
            f"which lied: {outcome.test_accuracy:.4f}.\n"
            f"In the model are {outcome.units_verified} results ({shares}), "
            f"{outcome.liar_results_in_model} of the {_LIAR}'s; {outcome.liar_refused} of its "
            "results were refused.\n\n"
            "Next: pleb-project new my-project (your own model and data), or\n"
            "      pleb-project demo --keep (look around on the page).",
        )


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
