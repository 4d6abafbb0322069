"""What all trays have in common: follow agentd, keep the look, carry out what was clicked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.tray.agentd import NotRunningError, RefusedError, read_place
from pleb_agent.tray.follower import Follower
from pleb_agent.tray.look import REQUESTS, Command, look_of
from pleb_system.processes import start_detached

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.tray.look import Look, Translate

__all__ = ["Tray"]

_OPENERS: Final = {"darwin": ["open"], "win32": ["rundll32", "url.dll,FileProtocolHandler"]}
"""What opens the browser, by `sys.platform`; elsewhere `xdg-open` does."""


class Tray:
    """The part of a tray that knows nothing of how it is shown."""

    def __init__(
        self,
        home: str,
        clock: Callable[[], float],
        say: Translate,
        launch: Callable[..., None] = start_detached,
        platform: str = sys.platform,
    ) -> None:
        """`launch`: starts a program; environment variables may be added by name."""
        self._home = home
        self._say = say
        self._launch = launch
        self._platform = platform
        self.look: Look = look_of(None, say)
        self.ended = False
        self.on_look: Callable[[Look], None] = lambda _: None
        self.follower = Follower(home, clock, self.show_status)

    def carry_out(self, command: Command, activation_token: str = "") -> None:
        """Carry out a click. A refusal of agentd is shown until its next status."""
        try:
            match command:
                case Command.OPEN:
                    self._open_page("", activation_token)
                case Command.PREFERENCES:
                    self._open_page("preferences", activation_token)
                case Command.START:
                    from pleb_agent.program.command import module_command  # pathlib: 1 MB

                    self._launch([*module_command("pleb_agent.cli"), "start", "--home", self._home])
                    self.follower.retry_now()
                case _:
                    name, body = REQUESTS[command]
                    self.show_status(read_place(self._home).ask(name, body))
        except NotRunningError:
            self.show_status(None)
        except RefusedError as error:
            self._show(self.look._replace(tooltip=str(error)))
        except OSError as error:
            missing = self._say("This cannot be started: {reason}.", reason=str(error.strerror))
            self._show(self.look._replace(tooltip=missing))
        if command is Command.QUIT:
            self.ended = True

    def _open_page(self, part: str, activation_token: str) -> None:
        address = str(read_place(self._home).ask("page", {})["url"])
        if part:
            address += f"{'&' if '?' in address else '?'}part={part}"
        token = {"XDG_ACTIVATION_TOKEN": activation_token} if activation_token else {}
        self._launch([*_OPENERS.get(self._platform, ["xdg-open"]), address], **token)

    def show_status(self, status: dict[str, Any] | None) -> None:
        """Show a status of agentd; None: it does not answer."""
        look = look_of(status, self._say)
        self.ended = self.ended or look.ended
        self._show(look)

    def _show(self, look: Look) -> None:
        if look != self.look:
            self.look = look
            self.on_look(look)
