"""The whole agent on a real screen: input holds it, its icon is there, its commands work.

A real coordinator with a project, agentd as a session would start it, its probe, tray and worker,
Xfce's panel, and a mouse that is moved.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.e2e.world import PROJECTS, Running, World, run_cli, wait_until
from tests.system.desktop import clean_environment, panel, run, session_bus, x_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.desktop import XServer

pytestmark = pytest.mark.system

IDLE_MINUTES = 0.05


@dataclass
class Volunteer:
    """Somebody's PC: a screen, a mouse and an attached agent."""

    world: World
    agent: Running
    screen: XServer
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        return self.world.root / "ann"

    def cli(self, *words: object) -> str:
        return run_cli("pleb_agent", *words, "--home", self.home).stdout

    def status(self) -> dict[str, Any]:
        view: dict[str, Any] = json.loads(self.cli("status", "--json"))
        return view

    def until(self, what: str, **wanted: object) -> dict[str, Any]:
        """Return the first status whose fields are these."""

        def look() -> dict[str, Any] | None:
            view = self.status()
            return view if wanted.items() <= view.items() else None

        try:
            return wait_until(what, look)  # type: ignore[no-any-return]
        except AssertionError as error:
            message = f"{error}: {self.status()}\n{self.agent.tail()}"
            raise AssertionError(message) from None

    def touch(self) -> None:
        self.screen.xdotool("mousemove_relative", "--", "3", "3")

    def children(self, module: str) -> list[psutil.Process]:
        """The agent's own processes that run this module."""
        found = []
        for one in self.agent.descendants():
            with suppress(psutil.NoSuchProcess):  # it may end while we look
                if module in " ".join(one.cmdline()):
                    found.append(one)
        return found


@contextmanager
def volunteer(root: Path, project: Path = PROJECTS / "tiny") -> Iterator[Volunteer]:
    world = World(root)
    with session_bus() as bus, x_server() as screen:
        environment = clean_environment(**screen.environment, **bus.environment)
        with panel("xfce4-panel", screen, bus):
            try:
                world.serve("--with-agent")
                link = world.publish(project)
                world.attach("ann", link)
                run_cli(
                    "pleb_agent",
                    *("prefs", "set", f"idle_minutes={IDLE_MINUTES}", "cpu_others_percent=none"),
                    *("--home", root / "ann"),
                )
                agent = world.start_desktop_agent("ann", environment)
                wait_until("the agent to answer", (root / "ann" / "agentd.json").exists)
                yield Volunteer(world, agent, screen, environment)
            finally:
                world.close()


def test_who_touches_the_pc_has_it_for_himself(tmp_path):
    with volunteer(tmp_path) as ann:
        ann.until("work while nobody touches the PC", reason="ready")
        wait_until("an accepted unit", lambda: _accepted(ann.status()) > 0)
        ann.touch()
        view = ann.until("a pause by input", reason="in_use")
        assert view["activity"] == "paused"
        assert "The PC is in use" in view["sentence"]
        assert view["next_look_at"] > time.time() - 1
        ann.until("work again, later", reason="ready")

        ann.cli("boost", "--for", "1h")
        ann.touch()
        time.sleep(0.5)
        assert ann.status()["reason"] == "ready"
        assert ann.status()["override"]["kind"] == "boost"
        ann.cli("pause", "--for", "1h")
        assert "Paused by you" in ann.until("a pause by hand", reason="paused_by_user")["sentence"]
        ann.cli("resume")
        ann.until("work again", reason="ready")
        kinds = {event["kind"] for event in _get(ann, "history")["events"]}
        assert {"start", "run", "pause"} <= kinds


def test_its_processes_come_back_and_end_with_it(tmp_path):
    with volunteer(tmp_path) as ann:
        ann.until("work while nobody touches the PC", reason="ready")
        _comes_back(ann, "pleb_agent.probe.main")
        _comes_back(ann, "pleb_agent.tray.main")
        ann.until("work after the probe's death", reason="ready")
        everything = ann.agent.descendants()
        ann.agent.kill()
        _, alive = psutil.wait_procs(everything, timeout=20)
        tray = [one for one in alive if "pleb_agent.tray.main" in " ".join(one.cmdline())]
        assert alive == tray, "all but the tray, which waits for the next agentd, end with agentd"
        control = ann.home / "agentd.json"
        killed = control.read_text()
        again = ann.world.start_desktop_agent("ann", ann.environment)
        ann.agent = again
        wait_until("the new agent to answer", lambda: control.read_text() != killed)
        ann.until("work after a kill", reason="ready")
        assert again.stop() == 0


def test_a_second_start_opens_the_page(tmp_path):
    with volunteer(tmp_path) as ann:
        opened = tmp_path / "opened"
        browser = tmp_path / "bin" / "xdg-open"
        browser.parent.mkdir()
        browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
        browser.chmod(0o755)
        environment = ann.environment | {"PATH": f"{browser.parent}:{ann.environment['PATH']}"}
        command = [sys.executable, "-m", "pleb_agent.cli"]
        said = run([*command, "start", "--home", str(ann.home)], environment)
        assert "is running already" in said
        address = wait_until("the browser", lambda: opened.exists() and opened.read_text()).strip()
        assert address.startswith("http://127.0.0.1:")
        link = "pleb://train.example/join/words#" + "ab" * 32
        run([*command, "open", link, "--home", str(ann.home)], environment)
        wait_until("the welcome", lambda: "&link=pleb%3A%2F%2F" in opened.read_text())


def test_the_session_starts_it_and_forgets_it(tmp_path):
    """`autostart on` makes entries that the desktop's own validator accepts."""
    environment = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-m", "pleb_agent.cli", "autostart"]
    home = ["--home", str(tmp_path / "agent home")]
    run([*command, "on", *home], environment)
    entries = sorted(tmp_path.rglob("*.desktop"))
    assert [one.parent.name for one in entries] == ["autostart", "applications"]
    for entry in entries:
        done = subprocess.run(
            ["desktop-file-validate", entry], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")
    asked = run(["xdg-mime", "query", "default", "x-scheme-handler/pleb"], environment)
    assert asked.strip() == "pleb-agent.desktop"
    run([*command, "off", *home], environment)
    assert list(tmp_path.rglob("*.desktop")) == []
    assert not run(["xdg-mime", "query", "default", "x-scheme-handler/pleb"], environment).strip()


def _comes_back(ann: Volunteer, module: str) -> None:
    (first,) = wait_until(f"{module} to run", lambda: ann.children(module))
    first.kill()

    def another() -> bool:
        return any(one.pid != first.pid for one in ann.children(module))

    wait_until(f"{module} to come back", another)


def _accepted(view: dict[str, Any]) -> int:
    return sum(int(one["counters"].get("verdicts_valid", 0)) for one in view["projects"])


def _get(ann: Volunteer, name: str) -> dict[str, Any]:
    import httpx

    place = json.loads((ann.home / "agentd.json").read_text())
    answer = httpx.get(
        f"http://127.0.0.1:{place['port']}/api/{name}",
        headers={"authorization": f"Bearer {place['token']}"},
    )
    value: dict[str, Any] = answer.json()
    return value
