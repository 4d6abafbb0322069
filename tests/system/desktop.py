"""Real display servers, buses and panels for the system tests: each on a free place, each ended.

Every starter is a context manager. What it yields has an `environment` for the programs that
shall live in it; nothing of the tester's own session leaks in.

    with session_bus() as bus, x_server() as server, panel("xfce4-panel", server, bus):
        environment = clean_environment(**server.environment, **bus.environment)
        run(["xdotool", "mousemove", "5", "5"], environment)
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pleb_agent.dbus.bus import open_bus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "Bus",
    "Compositor",
    "XServer",
    "clean_environment",
    "kwin",
    "mutter",
    "panel",
    "run",
    "runtime_folder",
    "session_bus",
    "started",
    "sway",
    "until",
    "x_server",
    "xwayland",
]

T = TypeVar("T")

START_SECONDS = 30.0
END_SECONDS = 5.0
MUTTER_SERVICES = ("org.gnome.Mutter.IdleMonitor", "org.gnome.Mutter.RemoteDesktop")
UNPRIVILEGED = 65534
"""User and group `nobody`: sway and KWin refuse to run as root."""

OF_A_SESSION = (
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "DISPLAY",
    "SWAYSOCK",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_CURRENT_DESKTOP",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_ID",
    "XDG_SESSION_TYPE",
)


def clean_environment(**values: str) -> dict[str, str]:
    """Return the tester's environment without any session's traces, plus `values`."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_SESSION}
    return kept | values


def until(look: Callable[[], T], what: str, seconds: float = START_SECONDS) -> T:
    """Return the first true answer of `look`; fail with `what` when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return answer


def run(command: Sequence[str], environment: Mapping[str, str], seconds: float = 30) -> str:
    """Run a short program in a session and return what it printed."""
    done = subprocess.run(
        list(command),
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def started(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    pass_fds: Sequence[int] = (),
    user: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a process group of its own; end the group afterwards."""
    process = subprocess.Popen(
        list(command),
        env=dict(environment),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=pass_fds,
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program that `started` started and all its children."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
        except ProcessLookupError:
            break
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait(END_SECONDS)


@contextmanager
def runtime_folder(owner: int | None = None) -> Iterator[Path]:
    """Make an XDG_RUNTIME_DIR with a short path (sockets' paths are at most 107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="pleb-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o700)
        if owner is not None:
            os.chown(folder, owner, owner)
        yield folder


@dataclass
class XServer:
    """A virtual X server. `display`: such as ":1"."""

    process: subprocess.Popen[bytes]
    display: str

    @property
    def environment(self) -> dict[str, str]:
        """What its clients need."""
        return {"DISPLAY": self.display, "XDG_SESSION_TYPE": "x11"}

    def xdotool(self, *arguments: str) -> str:
        """Move the mouse, press keys, ask for windows."""
        return run(["xdotool", *arguments], clean_environment(**self.environment))


@contextmanager
def x_server(
    display: str | None = None, *, size: str = "1024x768x24", options: Sequence[str] = ()
) -> Iterator[XServer]:
    """Start Xvfb on a free display, or on the given one."""
    place = [display] if display else []
    command = ["Xvfb", *place, "-screen", "0", size, "-noreset", "-nolisten", "tcp", *options]
    with _displayed(command, clean_environment()) as server:
        yield server


@contextmanager
def _displayed(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[XServer]:
    """Start an X server that tells which display it has taken."""
    read_end, write_end = os.pipe()
    told_on = ["-displayfd", str(write_end)]
    with started([*command, *told_on], environment, pass_fds=[write_end]) as process:
        os.close(write_end)
        with os.fdopen(read_end) as told:
            number = told.readline().strip()
        assert number, f"{command[0]} did not start"
        yield XServer(process, f":{number}")


@dataclass
class Bus:
    """A message bus of D-Bus."""

    process: subprocess.Popen[bytes]
    address: str

    @property
    def environment(self) -> dict[str, str]:
        """What programs of a session need to find it as the session's bus."""
        return {"DBUS_SESSION_BUS_ADDRESS": self.address}


@contextmanager
def session_bus(environment: Mapping[str, str] | None = None) -> Iterator[Bus]:
    """Start a bus for a session (or to pretend that it is the system's).

    `environment`: that of the services that the bus starts by itself.
    """
    read_end, write_end = os.pipe()
    command = ["dbus-daemon", "--session", "--nofork", f"--print-address={write_end}"]
    with started(
        command, clean_environment(**(environment or {})), pass_fds=[write_end]
    ) as process:
        os.close(write_end)
        with os.fdopen(read_end) as told:
            address = told.readline().strip()
        assert address, "dbus-daemon did not start"
        yield Bus(process, address)


@contextmanager
def panel(
    program: str, server: XServer, bus: Bus, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a panel (such as `xfce4-panel`) on a display; it may not be ready yet."""
    environment = clean_environment(**server.environment, **bus.environment)
    with started([program, *options], environment) as process:
        yield process


@dataclass
class Compositor:
    """A Wayland compositor without a screen."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str] = field(default_factory=dict)
    """What its clients need."""


@contextmanager
def mutter(bus: Bus, size: str = "800x600") -> Iterator[Compositor]:
    """Start GNOME's compositor with a virtual monitor; it owns its names on `bus`."""
    with ExitStack() as stack:
        folder = stack.enter_context(runtime_folder())
        command = ["mutter", "--headless", "--virtual-monitor", size, "--wayland", "--no-x11"]
        inside = {"XDG_RUNTIME_DIR": str(folder)} | bus.environment
        process = stack.enter_context(started(command, clean_environment(**inside)))
        name = _wayland_socket(folder)
        with open_bus(bus.address) as asking:
            for service in MUTTER_SERVICES:  # they come after the socket
                until(partial(asking.has_owner, service), service)
        session = {"WAYLAND_DISPLAY": name, "XDG_SESSION_TYPE": "wayland"}
        yield Compositor(process, inside | session)


@contextmanager
def sway() -> Iterator[Compositor]:
    """Start sway with a virtual output. `environment` has SWAYSOCK for swaymsg."""
    with ExitStack() as stack:
        folder = stack.enter_context(runtime_folder(UNPRIVILEGED))
        config = folder / "config"
        config.write_text("xwayland disable\n")
        inside = {
            "HOME": str(folder),
            "SWAYSOCK": str(folder / "sway.sock"),
            "WLR_BACKENDS": "headless",
            "WLR_LIBINPUT_NO_DEVICES": "1",
            "WLR_RENDERER": "pixman",
            "XDG_RUNTIME_DIR": str(folder),
        }
        command = ["sway", "--config", str(config)]
        environment = clean_environment(**inside)
        process = stack.enter_context(started(command, environment, user=UNPRIVILEGED))
        name = _wayland_socket(folder)
        until((folder / "sway.sock").exists, "sway's socket")
        session = {"WAYLAND_DISPLAY": name, "XDG_SESSION_TYPE": "wayland"}
        places = {key: inside[key] for key in ("SWAYSOCK", "XDG_RUNTIME_DIR")}
        yield Compositor(process, places | session)


@contextmanager
def kwin(server: XServer) -> Iterator[Compositor]:
    """Start KDE's compositor in a window of an X server that lets every user in (`-ac`)."""
    with ExitStack() as stack:
        folder = stack.enter_context(runtime_folder(UNPRIVILEGED))
        program = folder / "kwin_wayland"  # a copy has no file capabilities: they may not hold
        shutil.copy("/usr/bin/kwin_wayland", program)
        inside = {"HOME": str(folder), "KWIN_COMPOSE": "Q", "XDG_RUNTIME_DIR": str(folder)}
        options = ["--x11-display", server.display, "--width", "800", "--height", "600"]
        quiet = ["--no-lockscreen", "--no-global-shortcuts"]
        command = ["dbus-run-session", str(program), *options, *quiet]
        environment = clean_environment(**inside)
        process = stack.enter_context(started(command, environment, user=UNPRIVILEGED))
        name = _wayland_socket(folder)
        session = {"WAYLAND_DISPLAY": name, "XDG_SESSION_TYPE": "wayland"}
        yield Compositor(process, {"XDG_RUNTIME_DIR": str(folder)} | session)


@contextmanager
def xwayland(compositor: Compositor) -> Iterator[XServer]:
    """Start the X server that stands in for Wayland in a compositor."""
    environment = clean_environment(**compositor.environment)
    with _displayed(["Xwayland"], environment) as server:
        yield server


def _wayland_socket(folder: Path) -> str:
    def look() -> str:
        names = (path.name for path in folder.glob("wayland-*") if path.is_socket())
        return next(names, "")

    return until(look, "the compositor's socket")
