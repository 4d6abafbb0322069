"""Linux: XDG autostart, a launcher entry that also takes `pleb://` links, a systemd user unit.

Sources: freedesktop.org Desktop Entry Specification 1.5 (Exec quoting), Autostart Specification
0.5, MIME Associations Specification 1.0; systemd.unit(5), systemd.service(5).
"""

from __future__ import annotations

import configparser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_agent.program.command import is_frozen
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SystemdEntries", "XdgEntries", "exec_line"]

ENTRY: Final = "pleb-agent.desktop"
UNIT: Final = "pleb-agent.service"
_SCHEMES: Final = ("x-scheme-handler/pleb", "x-scheme-handler/pleb+http")
_CLAIMS: Final = tuple(f"{scheme}={ENTRY}\n" for scheme in _SCHEMES)
_HEADING: Final = "[Default Applications]\n"
_LAUNCHER: Final = Path(__file__).with_name(ENTRY)
"""The menu's entry, as packages install it."""
_OWN_COMMAND: Final = "Exec=pleb-agent "
_OF_LAUNCHERS: Final = frozenset({"Exec", "MimeType", "Actions", "StartupNotify", "Keywords"})
_ICON: Final = Path(__file__).parents[1] / "web" / "static" / "icon.svg"
"""Packages bring icons along in all sizes; an agent from source has this one."""
_SPECIAL: Final = frozenset(" \t\n\"'\\><~|&;$*?#()`")


def exec_line(command: Sequence[str], *codes: str) -> str:
    """Return an `Exec` value: quoted arguments, then field codes such as %u."""
    return " ".join([*map(_quoted, command), *codes])


def _quoted(argument: str) -> str:
    argument = argument.replace("%", "%%")
    if argument and not _SPECIAL & set(argument):
        return argument
    for special in ("\\", '"', "`", "$"):
        argument = argument.replace(special, "\\" + special)
    # The whole value is unescaped once more as a string of the key file.
    return '"' + argument.replace("\\", "\\\\").replace("\n", "\\n") + '"'


@dataclass(frozen=True)
class XdgEntries:
    """For a desktop. `config`, `data`: the user's folders ($XDG_CONFIG_HOME, $XDG_DATA_HOME).

    `program`: the start of our command lines. `home`: the agent's folder.
    """

    config: Path
    data: Path
    program: Sequence[str]
    home: Path

    @property
    def autostart(self) -> Path:
        """The entry that the session starts."""
        return self.config / "autostart" / ENTRY

    @property
    def launcher(self) -> Path:
        """The entry in the menu."""
        return self.data / "applications" / ENTRY

    def state(self) -> tuple[bool, str]:
        """Return whether the session starts the agent; users may switch it off elsewhere."""
        try:
            text = self.autostart.read_text("utf-8", errors="replace")
        except OSError:
            return False, "The agent does not start with your session."
        parser = configparser.RawConfigParser(strict=False, delimiters="=")
        parser.optionxform = str  # type: ignore[assignment,method-assign] # keys keep their case
        with suppress(configparser.Error):
            parser.read_string(text)
        hidden = parser.get("Desktop Entry", "Hidden", fallback="false")
        enabled = parser.get("Desktop Entry", "X-GNOME-Autostart-enabled", fallback="true")
        if hidden == "true" or enabled == "false":
            return False, "Your desktop's settings keep the agent from starting."
        return True, f"Your session starts the agent ({self.autostart})."

    def make(self) -> None:
        """Write the entries; become the default for `pleb://` links."""
        launcher = self._launcher()
        _write(self.launcher, launcher)
        _write(self.autostart, self._autostart(launcher))
        try:
            text = self._associations.read_text("utf-8")
        except FileNotFoundError:
            text = ""
        if any(f"{scheme}=" in text for scheme in _SCHEMES):
            return  # the user has chosen something for our links
        if _HEADING not in text:
            text += ("\n" if text and not text.endswith("\n") else "") + _HEADING
        _write(self._associations, text.replace(_HEADING, _HEADING + "".join(_CLAIMS), 1))

    def remove(self) -> None:
        """Delete the entries; give the links back."""
        self.autostart.unlink(missing_ok=True)
        self.launcher.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            kept = [
                line
                for line in self._associations.read_text("utf-8").splitlines(keepends=True)
                if line.strip() + "\n" not in _CLAIMS
            ]
            if kept == [_HEADING]:
                self._associations.unlink()
            else:
                _write(self._associations, "".join(kept))

    def _launcher(self) -> str:
        """Return the menu's entry, whose commands work where ours is not on the PATH."""
        ours, home = exec_line(self.program), exec_line(["--home", str(self.home)])
        lines = [
            f"Exec={ours} {line.removeprefix(_OWN_COMMAND)} {home}"
            if line.startswith(_OWN_COMMAND)
            else line
            for line in _LAUNCHER.read_text("utf-8").splitlines()
        ]
        text = "\n".join([*lines, ""])
        return text if is_frozen() else text.replace("Icon=pleb-agent", f"Icon={_ICON}", 1)

    def _autostart(self, launcher: str) -> str:
        """Return the session's entry: the launcher's name and icon, another command."""
        entry = launcher.partition("\n\n")[0].splitlines()
        command = [*self.program, "start", "--if-needed", "--home", str(self.home)]
        return "\n".join(
            [
                *(line for line in entry if line.partition("=")[0] not in _OF_LAUNCHERS),
                f"Exec={exec_line(command)}",
                "X-GNOME-Autostart-enabled=true",
                "X-GNOME-Autostart-Delay=10",
                "",
            ]
        )

    @property
    def _associations(self) -> Path:
        """The user's own file, also where it is a link to a folder of such files."""
        return (self.config / "mimeapps.list").resolve()


@dataclass(frozen=True)
class SystemdEntries:
    """For a host without a desktop: a unit of the user's own systemd."""

    folder: Path
    command: Sequence[str]

    @property
    def unit(self) -> Path:
        """The unit's file."""
        return self.folder / UNIT

    @property
    def _wanted(self) -> Path:
        return self.folder / "default.target.wants" / UNIT

    def state(self) -> tuple[bool, str]:
        """Return whether systemd starts the agent."""
        if not self._wanted.is_symlink():
            return False, "systemd does not start the agent."
        return True, (
            f"systemd starts the agent when you log in ({self.unit}); `loginctl enable-linger` "
            "makes that when the machine starts."
        )

    def make(self) -> None:
        """Write the unit and want it, as `systemctl --user enable` does."""
        escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"})
        words = [f'"{word.translate(escapes)}"' for word in self.command]
        _write(self.unit, _UNIT_TEXT.format(command=" ".join(words)))
        self._wanted.parent.mkdir(parents=True, exist_ok=True)
        self._wanted.unlink(missing_ok=True)
        self._wanted.symlink_to(self.unit)

    def remove(self) -> None:
        """Delete the unit."""
        self._wanted.unlink(missing_ok=True)
        self.unit.unlink(missing_ok=True)


_UNIT_TEXT: Final = """\
[Unit]
Description=Pleb-Cluster agent
Documentation=man:pleb-agent(1)
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=10
Slice=background.slice
# A checkpoint is written before the end.
TimeoutStopSec=30

[Install]
WantedBy=default.target
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text.encode())
