"""`serve --with-agent`: a trusted agent on the coordinator's own machine."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_coordinator.steps.invite import new_invite
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_coordinator.api.links import LinkBase
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

__all__ = ["Attacher", "agent_command"]

_LOOK_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 15.0
_INVITE_SECONDS: Final = 600.0


def agent_command(home: Home, *arguments: str) -> list[str]:
    """Return the command line of that agent."""
    return [sys.executable, "-m", "pleb_agent.cli", *arguments, "--home", str(home.agent)]


@dataclass
class Attacher:
    """Attaches the agent to every project, including those that are published later.

    It attaches again at each start, since the server's address may have changed. The invite
    is made for this one attachment and revoked if it was not used.
    """

    home: Home
    store: Store
    deps: Deps
    links: LinkBase
    report: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _attached: set[str] = field(default_factory=set)
    _running: tuple[str, str, subprocess.Popen[bytes]] | None = None
    _next_look: float = 0.0

    def look(self) -> None:
        """Start or finish one attachment; never waits."""
        if self._running is not None:
            self._finish(*self._running)
        elif self.clock() >= self._next_look:
            self._next_look = self.clock() + _LOOK_SECONDS
            self._start_next()

    def close(self) -> None:
        """Stop an attachment that is in progress."""
        if self._running is not None:
            self._running[2].kill()
            self._running[2].wait()

    def _start_next(self) -> None:
        with self.store.read() as tx:
            waiting = [name for name in tx.projects.names() if name not in self._attached]
            if not waiting:
                return
            link = self.links.attach_link(tx.projects.find(waiting[0]))
        with self.store.write() as tx:
            token = new_invite(
                tx,
                self.deps,
                Role.TRUSTED,
                note="serve --with-agent",
                lifetime_seconds=_INVITE_SECONDS,
            )
        command = agent_command(
            self.home, "attach", str(link), "--invite", token, "--name", "coordinator"
        )
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._running = (waiting[0], token, process)

    def _finish(self, name: str, token: str, process: subprocess.Popen[bytes]) -> None:
        code = process.poll()
        if code is None:
            return
        error = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
        self._running = None
        with self.store.write() as tx:
            tx.invites.revoke(digest_of(token.encode()))
        if code == 0:
            self._attached.add(name)
            return
        self._next_look = self.clock() + _AGAIN_SECONDS
        self.report(
            f"The agent could not attach to {name}: {error or code}. It will try again soon."
        )
