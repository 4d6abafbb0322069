"""Has the system run `pleb-project renew --due` once a day while this PC is on.

A timer of the user's systemd, a LaunchAgent of macOS, or a task of Windows: each catches up after
the PC was off. Sources: systemd.timer(5), launchd.plist(5), schtasks.
"""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Schedule", "system_schedule"]

_NAME: Final = "pleb-project-renew"
_LABEL: Final = "org.pleb-cluster.renew"
_TASK: Final = "Pleb-Cluster renew"
_TIMEOUT_SECONDS: Final = 30


def _run(command: Sequence[str]) -> str:
    """Run one of the system's commands; return its complaint, empty if it worked."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is missing"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip() or "it failed"


@dataclass(frozen=True)
class Schedule:
    """One user's schedule. `platform` is `sys.platform`; `folder` holds what is written.

    `command`: what is run once a day. `run`: runs one of the system's commands and returns its
    complaint.
    """

    platform: str
    folder: Path
    command: Sequence[str]
    run: Callable[[Sequence[str]], str] = _run

    def turn_on(self) -> str:
        """Set it up, replacing an earlier one; return what was made.

        Raises:
            InputError: the system does not take it; the message says what to do instead.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.platform == "win32":
            command = subprocess.list2cmdline(self.command)
            make = ("schtasks", "/Create", "/F", "/SC", "DAILY", "/TN", _TASK, "/TR", command)
            self._need(self.run(make))
            return f"the task {_TASK!r}"
        if self.platform == "darwin":
            write_durably(self._plist, self._property_list())
            self.run(("launchctl", "bootout", f"gui/{os.getuid()}/{_LABEL}"))  # an earlier one
            self._need(self.run(("launchctl", "bootstrap", f"gui/{os.getuid()}", str(self._plist))))
            return str(self._plist)
        for path, text in self._units().items():
            write_durably(path, text.encode())
        self._need(
            self.run(("systemctl", "--user", "daemon-reload"))
            or self.run(("systemctl", "--user", "enable", "--now", f"{_NAME}.timer"))
        )
        return f"the timer {_NAME}.timer of your systemd"

    def turn_off(self) -> None:
        """Remove it; harmless if there is none."""
        if self.platform == "win32":
            self.run(("schtasks", "/Delete", "/F", "/TN", _TASK))
        elif self.platform == "darwin":
            self.run(("launchctl", "bootout", f"gui/{os.getuid()}/{_LABEL}"))
            self._plist.unlink(missing_ok=True)
        else:
            self.run(("systemctl", "--user", "disable", "--now", f"{_NAME}.timer"))
            for path in self._units():
                path.unlink(missing_ok=True)

    def is_on(self) -> bool:
        """Whether it is set up."""
        if self.platform == "win32":
            return not self.run(("schtasks", "/Query", "/TN", _TASK))
        if self.platform == "darwin":
            return self._plist.exists()
        return all(path.exists() for path in self._units())

    def _need(self, complaint: str) -> None:
        if not complaint:
            return
        self.turn_off()
        raise InputError(
            f"The system cannot run a daily task for you ({complaint}): keep `pleb-project renew "
            f"--watch` running instead, or have cron run once a day: {shlex.join(self.command)}"
        )

    @property
    def _plist(self) -> Path:
        return self.folder / f"{_LABEL}.plist"

    def _property_list(self) -> bytes:
        # launchd runs a missed time once the Mac wakes up, and RunAtLoad covers one that was off.
        return plistlib.dumps(
            {
                "Label": _LABEL,
                "ProgramArguments": list(self.command),
                "RunAtLoad": True,
                "StartCalendarInterval": {"Hour": 12, "Minute": 0},
            }
        )

    def _units(self) -> dict[Path, str]:
        line = " ".join(_unit_quoted(argument) for argument in self.command)
        return {
            self.folder / f"{_NAME}.service": (
                "[Unit]\nDescription=Renew the permissions of Pleb-Cluster projects\n\n"
                f"[Service]\nType=oneshot\nExecStart={line}\n"
            ),
            self.folder / f"{_NAME}.timer": (
                "[Unit]\nDescription=Renew the permissions of Pleb-Cluster projects daily\n\n"
                "[Timer]\nOnCalendar=daily\nRandomizedDelaySec=2h\nPersistent=true\n\n"
                "[Install]\nWantedBy=timers.target\n"
            ),
        }


def system_schedule(home: Path, passphrase_file: Path | None) -> Schedule:
    """Return this user's schedule, for the projects of `home`."""
    command = [sys.executable, "-m", "pleb_project.cli", "renew", "--due", "--home", str(home)]
    if passphrase_file is not None:
        command += ["--passphrase-file", str(passphrase_file.absolute())]
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"
    if sys.platform == "darwin":
        folder = Path.home() / "Library/LaunchAgents"
    return Schedule(sys.platform, folder, command)


def _unit_quoted(argument: str) -> str:
    """Return an argument for `ExecStart`: systemd expands % and $, and reads C escapes."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'
