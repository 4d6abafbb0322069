"""A desktop with a panel and a tray of ours, for the tray's system tests.

Screenshots are kept in `$PLEB_SCREENSHOTS`, or in `build/screenshots` of the source tree.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageGrab

from pleb_agent.program.command import module_command
from tests.system.desktop import clean_environment, session_bus, started, until, x_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.system.desktop import Bus, XServer

__all__ = ["Box", "Desktop", "Program", "changed", "desktop", "tray_program"]

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("PLEB_SCREENSHOTS") or ROOT / "build/screenshots")
PANEL_HEIGHT = 30

Box = tuple[int, int, int, int]
"""left, top, right, bottom."""

XFCE_PANEL = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array">
    <value type="int" value="1"/>
    <property name="dark-mode" type="bool" value="{dark_mode}"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=6;x=0;y=0"/>
      <property name="length" type="uint" value="100"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="size" type="uint" value="30"/>
      <property name="plugin-ids" type="array"><value type="int" value="1"/></property>
    </property>
  </property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="systray"/>
  </property>
</channel>
"""
BROWSER = """#!/bin/sh
echo "$1" >> "$PLEB_TEST_OPENED"
"""


@dataclass
class Desktop:
    """A display, a bus, a person's folders and a browser that writes down what it shall open."""

    server: XServer
    bus: Bus
    folder: Path
    environment: dict[str, str]

    @property
    def opened(self) -> list[str]:
        """The addresses that the browser was told to open."""
        path = self.folder / "opened"
        return path.read_text("utf-8").splitlines() if path.exists() else []

    def xfce_panel(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start Xfce's panel with its tray plugin."""
        return started(["xfce4-panel", "--disable-wm-check"], self.environment)

    def trayer(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start an XEmbed tray as wide as its icons: only pystray's X11 back end uses one."""
        options = ["--edge", "top", "--widthtype", "request", "--height", f"{PANEL_HEIGHT}"]
        return started(["trayer", *options], self.environment)

    def picture(self) -> np.ndarray:
        """Return what is on the screen, height x width x 3."""
        return np.asarray(ImageGrab.grab(xdisplay=self.server.display).convert("RGB"))

    def keep(self, name: str) -> None:
        """Keep a screenshot for people."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.picture()).save(SCREENSHOTS / f"{name}.png")

    def has_panel(self) -> bool:
        """Whether a panel is painted at the upper edge of the black screen."""
        return bool(self.picture()[:PANEL_HEIGHT].any())

    def still_picture(self) -> np.ndarray:
        """Return the screen, once it does not change any more."""

        def still() -> tuple[np.ndarray, ...]:
            picture = self.picture()
            time.sleep(0.3)
            return () if changed(picture, self.picture()) else (picture,)

        return until(still, "a screen that stands still")[0]

    def change(self, before: np.ndarray, what: str) -> Box:
        """Return where the screen has changed, once it has and stands still again."""

        def still() -> Box | None:
            picture = self.picture()
            time.sleep(0.2)
            box = changed(before, picture)
            return box if box is not None and not changed(picture, self.picture()) else None

        return until(still, what) or (0, 0, 0, 0)

    def click(self, box: Box, button: int) -> None:
        """Click into the middle of a part of the screen."""
        x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
        self.server.xdotool("mousemove", f"{x}", f"{y}", "click", f"{button}")

    def keys(self, *names: str) -> None:
        """Press keys."""
        self.server.xdotool("key", *names)

    def pointer_away(self) -> None:
        """Move the pointer where it changes nothing."""
        self.server.xdotool("mousemove", "900", "700")


def changed(before: np.ndarray, after: np.ndarray) -> Box | None:
    """Return the box around the pixels that differ; None: there are none."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    if not len(rows):
        return None
    return (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


@contextmanager
def desktop(folder: Path, *, dark_mode: bool = True, **more: str) -> Iterator[Desktop]:
    """Start a display and a bus for a person whose home is in `folder`; no panel yet."""
    home = folder / "person"
    channel = home / ".config/xfce4/xfconf/xfce-perchannel-xml/xfce4-panel.xml"
    channel.parent.mkdir(parents=True)
    channel.write_text(XFCE_PANEL.format(dark_mode=str(dark_mode).lower()), "utf-8")
    browser = folder / "bin/xdg-open"
    browser.parent.mkdir()
    browser.write_text(BROWSER, "utf-8")
    browser.chmod(0o755)
    values = {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{browser.parent}:{os.environ['PATH']}",
        "PLEB_TEST_OPENED": str(folder / "opened"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CURRENT_DESKTOP": "XFCE",
        "XDG_RUNTIME_DIR": str(home),
    } | more
    with x_server() as server:
        values |= server.environment
        with session_bus(values) as bus:
            yield Desktop(server, bus, folder, clean_environment(**values, **bus.environment))


@dataclass
class Program:
    """A tray that runs."""

    process: subprocess.Popen[bytes]
    errors: Path

    @property
    def wakes(self) -> int:
        """How often it has slept and been woken."""
        return int(self._status("voluntary_ctxt_switches"))

    @property
    def resident_bytes(self) -> int:
        """What of it is in memory, shared pages included."""
        return int(self._status("VmRSS").split()[0]) * 1024

    @property
    def proportional_bytes(self) -> int:
        """The same with shared pages shared out among those who share them."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("utf-8")
        return int(next(line.split()[1] for line in text.splitlines() if "Pss:" in line)) * 1024

    @property
    def cpu_ticks(self) -> int:
        """Its processor time, in hundredths of a second."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(")")[2]
        return sum(int(field) for field in fields.split()[11:13])

    def rests(self, seconds: float) -> bool:
        """Whether it sleeps so long without being woken once; it may have to end something."""

        def still() -> bool:
            before = (self.wakes, self.cpu_ticks)
            time.sleep(seconds)
            return (self.wakes, self.cpu_ticks) == before

        return until(still, "the tray's rest")

    def exit_code(self) -> int:
        """Return how it has ended; it must do so soon."""
        return self.process.wait(30)

    def _status(self, name: str) -> str:
        text = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        return next(
            line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(name)
        )


@contextmanager
def tray_program(home: Path, environment: Mapping[str, str], **more: Any) -> Iterator[Program]:
    """Start a home's tray; end it if it has not ended by itself. It must not complain."""
    command = [*module_command("pleb_agent.tray.main"), "--home", str(home)]
    errors = home.parent / "tray-errors"
    # As an installer does: a start that compiles takes two megabytes more.
    for package in ("dbus", "desktop", "tray"):
        compileall.compile_dir(ROOT / "agent/pleb_agent" / package, quiet=2)
    with errors.open("wb") as stream:
        process = subprocess.Popen(command, env=dict(environment) | more, stderr=stream)
    try:
        yield Program(process, errors)
    finally:
        process.terminate()
        process.wait(30)
        print(errors.read_text("utf-8"))
