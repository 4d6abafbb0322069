"""The torch runtime and new releases of a packaged agent, for the faces.

An agent that runs from source has neither, says so, and does not import the code for them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.control.views import OfferView, RuntimeView
from pleb_agent.program.installed import InstallKind, read_installation
from pleb_agent.program.own_files import Fate, OwnFiles
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.updates.offers import Offer
    from pleb_agent.updates.releases import Release, Releases
    from pleb_agent.updates.runtimes import Runtimes

__all__ = ["Packages"]

_LOG: Final = logging.getLogger("pleb.agent")
_FIRST_LOOK_SECONDS: Final = 60.0
_HOUR_SECONDS: Final = 3600.0
_LOOK_HOURS: Final = 24
_OWN_FILES_SECONDS: Final = 60.0


class Packages:
    """`on_change` is called when a view has changed, `on_runtime` when a runtime was installed.

    `runtimes`, `updates`: the folders of both in the home.
    """

    def __init__(
        self, runtimes: Path, updates: Path, preferences: Callable[[], Preferences]
    ) -> None:
        self.installation = read_installation()
        self.on_change: Callable[[], None] = lambda: None
        self.on_runtime: Callable[[], None] = lambda: None
        self.on_release: Callable[[Release], None] = lambda _: None
        self.handed_over: str | None = None
        """The version to start when agentd has stopped."""
        self.start_again = False
        """Whether this program was replaced: start the new one when agentd has stopped."""
        self._folders = runtimes, updates
        self._preferences = preferences
        self._runtimes: Runtimes | None = None
        self._releases: Releases | None = None
        self.release: Release | None = None
        """The newer release, if one is known."""
        self._offers: list[Offer] = []
        self._fetching: asyncio.Task[object] | None = None
        if self.installation.kind is not InstallKind.SOURCE:
            self._open()

    def runtime_path(self) -> Path | None:
        """Return the folder of the worker's packages; None: they are part of this Python."""
        return None if self._runtimes is None else self._runtimes.path()

    @property
    def lacks_runtime(self) -> bool:
        """Whether the worker cannot start because torch is not installed yet."""
        return self._runtimes is not None and self._runtimes.path() is None

    def runtime_view(self) -> RuntimeView | None:
        """Return the state of the runtime; None for an agent that was installed with torch."""
        if self._runtimes is None:
            return None
        state = self._runtimes.state()
        return RuntimeView(
            kind=state.kind,
            state=state.state.value,
            sentence=state.sentence,
            bytes_done=state.bytes_done,
            bytes_total=state.bytes_total,
            offers=[
                OfferView(kind=one.kind, bytes_total=one.bytes_total)
                for one in self._offers
                if one.kind not in self._runtimes.kinds()
            ],
        )

    def begin_runtime(self, kind: str) -> None:
        """Begin to download a runtime in the background; the view shows the progress.

        Raises:
            InputError: this agent was installed with torch.
        """
        if self._runtimes is None:
            raise InputError("This agent was installed with torch; there is nothing to download.")
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(self._runtimes, kind))

    async def install_update(self) -> None:
        """Install the newer release next to this one; `handed_over` names it then.

        Raises:
            PlebError: with the reason; nothing has changed.
        """
        if self._releases is None:
            raise InputError("This agent runs from source: update it the way you installed it.")
        self.handed_over = await self._releases.install()

    async def check_regularly(self) -> None:
        """Download the runtime as soon as possible; check for releases once a day."""
        if self._runtimes is None or self._releases is None or not self.installation.has_updates:
            return
        hours = 0
        while True:
            if self.lacks_runtime:
                self.begin_runtime("cpu")
            await asyncio.sleep(_FIRST_LOOK_SECONDS)
            if hours % _LOOK_HOURS == 0:
                await self._look(self._runtimes, self._releases)
            hours += 1
            await asyncio.sleep(_HOUR_SECONDS)

    async def watch_own_files(self, end: Callable[[], None]) -> None:
        """Stop this process when a package manager has replaced or removed its program."""
        files = OwnFiles.at_start()
        if files is None:
            return
        while (fate := files.fate()) is Fate.SAME:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(_OWN_FILES_SECONDS)
        self.start_again = fate is Fate.REPLACED
        _LOG.info("own files", extra={"fate": fate.value})
        end()

    async def close(self) -> None:
        """Cancel a download; it resumes the next time."""
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError, PlebError, OSError):
                await self._fetching

    def _open(self) -> None:
        from pleb_agent.updates.fetcher import Route
        from pleb_agent.updates.releases import Releases
        from pleb_agent.updates.repository import Source
        from pleb_agent.updates.runtimes import Runtimes

        runtimes, updates = self._folders
        source = Source(self.installation, updates, lambda: Route(self._preferences().proxy))
        self._runtimes = Runtimes(runtimes, self.installation, source)
        self._releases = Releases(self.installation, source)

    async def _fetch(self, runtimes: Runtimes, kind: str) -> None:
        try:
            await runtimes.fetch(kind, lambda _: self.on_change())
        except (PlebError, OSError) as error:
            _LOG.warning("runtime", extra={"problem": str(error)})
        else:
            self.on_runtime()
        self.on_change()

    async def _look(self, runtimes: Runtimes, releases: Releases) -> None:
        try:
            found = await releases.check()
            self._offers = await runtimes.offers()
        except PlebError as error:
            _LOG.info("update", extra={"problem": str(error)})
            return
        if found != self.release:
            self.release = found
            if found is not None:
                self.on_release(found)
            self.on_change()
