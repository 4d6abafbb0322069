"""The torch runtime and new releases of a packaged agent, for the faces.

An agent that runs from source has neither: it says so, and imports nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.program.installed import InstallKind, read_installation
from pleb_agent.web.views import RuntimeView, UpdateView
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.app.home import Home
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.updates.releases import Release, Releases
    from pleb_agent.updates.runtimes import Runtimes

__all__ = ["Packages"]

_LOG: Final = logging.getLogger("pleb.agent")
_FIRST_LOOK_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 24 * 3600.0


class Packages:
    """`on_change` is called when a view has changed, `on_runtime` when a runtime is there."""

    def __init__(self, home: Home, preferences: Callable[[], Preferences]) -> None:
        self.installation = read_installation()
        self.on_change: Callable[[], None] = _nothing
        self.on_runtime: Callable[[], None] = _nothing
        self.on_release: Callable[[UpdateView], None] = _ignored
        self.handed_over: str | None = None
        """The version that is to be started when agentd has ended."""
        self._home = home
        self._preferences = preferences
        self._runtimes: Runtimes | None = None
        self._releases: Releases | None = None
        self._release: Release | None = None
        self._fetching: asyncio.Task[object] | None = None
        if self.installation.kind is not InstallKind.SOURCE:
            self._open()

    def runtime_path(self) -> Path | None:
        """Return the folder of the worker's packages; None: they are part of this Python."""
        return None if self._runtimes is None else self._runtimes.path()

    @property
    def lacks_runtime(self) -> bool:
        """Whether the worker cannot start because torch is not there yet."""
        return self._runtimes is not None and self._runtimes.path() is None

    def runtime_view(self) -> RuntimeView | None:
        """Return how it stands with the runtime; None for an agent that brings torch along."""
        if self._runtimes is None:
            return None
        state = self._runtimes.state()
        return RuntimeView(
            kind=state.kind,
            state=state.state.value,
            sentence=state.sentence,
            bytes_done=state.bytes_done,
            bytes_total=state.bytes_total,
        )

    def update_view(self) -> UpdateView | None:
        """Return the newer release, if one is known."""
        release = self._release
        if release is None:
            return None
        return UpdateView(
            version=release.version,
            can_install=release.can_install,
            sentence=release.sentence,
            bytes_total=release.bytes_total,
        )

    def begin_runtime(self, kind: str) -> None:
        """Begin to fetch a runtime in the background; the view tells how far it is.

        Raises:
            InputError: this agent brings torch along.
        """
        if self._runtimes is None:
            raise InputError("This agent was installed with torch; there is nothing to fetch.")
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(self._runtimes, kind))

    async def install_update(self) -> None:
        """Fetch the newer release beside this one; `handed_over` names it then.

        Raises:
            PlebError: with the reason; nothing has changed.
        """
        if self._releases is None:
            raise InputError("This agent runs from source: update it the way you installed it.")
        self.handed_over = await self._releases.install()

    async def look_now_and_then(self) -> None:
        """Look for releases once a day, and fetch the runtime at the first start."""
        if self._runtimes is None or self._releases is None:
            return
        if self.lacks_runtime and self.installation.has_updates:
            self.begin_runtime("cpu")
        await asyncio.sleep(_FIRST_LOOK_SECONDS)
        while True:
            await self._look(self._releases)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """End a fetch; it goes on the next time."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError, PlebError, OSError):
                await self._fetching

    def _open(self) -> None:
        from pleb_agent.updates.fetcher import Route
        from pleb_agent.updates.releases import Releases
        from pleb_agent.updates.repository import Source
        from pleb_agent.updates.runtimes import Runtimes

        source = Source(
            self.installation, self._home.updates, lambda: Route(self._preferences().proxy)
        )
        self._runtimes = Runtimes(self._home.runtimes, self.installation, source)
        self._releases = Releases(self.installation, source)

    async def _fetch(self, runtimes: Runtimes, kind: str) -> None:
        try:
            await runtimes.fetch(kind, lambda _: self.on_change())
        except (PlebError, OSError) as error:
            _LOG.warning("runtime", extra={"problem": str(error)})
        else:
            self.on_runtime()
        self.on_change()

    async def _look(self, releases: Releases) -> None:
        try:
            found = await releases.check()
        except PlebError as error:
            _LOG.info("update", extra={"problem": str(error)})
            return
        if found != self._release:
            self._release = found
            view = self.update_view()
            if view is not None:
                self.on_release(view)
            self.on_change()


def _nothing() -> None:
    """Nobody listens."""


def _ignored(_: UpdateView) -> None:
    """Nobody listens."""
