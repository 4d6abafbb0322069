"""The torch runtime and new releases of a packaged agent, for the faces.

An agent that runs from source has neither, says so, and does not import the code for them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pleb_agent.control.views import OfferView, RuntimeView
from pleb_agent.core.devices import CPU, serves
from pleb_agent.program.installed import Fate, InstallKind, OwnFiles, read_installation
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pleb_agent.core.preferences import Preferences
    from pleb_agent.updates.offers import Offer
    from pleb_agent.updates.releases import Release, Releases
    from pleb_agent.updates.runtimes import Runtimes

__all__ = ["Packages", "version_of"]

_LOG: Final = logging.getLogger("pleb.agent")
_FIRST_CHECK_SECONDS: Final = 60.0
_HOUR_SECONDS: Final = 3600.0
_CHECK_HOURS: Final = 24
_OWN_FILES_SECONDS: Final = 60.0


def version_of(kind: str) -> list[int]:
    """Return the numbers in a runtime's kind, by which the newer of two is known."""
    return [int(number) for number in re.findall(r"\d+", kind)]


class Packages:
    """The runtimes and releases of one home.

    Args:
        runtimes: the folder of runtimes.
        updates: the folder of releases.
        preferences: called at each use.
        cards: names of this PC's devices but the processor, whose runtimes are offered.
        on_change: called when what the faces show has changed.
        on_runtime: called when a runtime was installed.
        on_release: called when a newer release was found.
    """

    def __init__(
        self,
        runtimes: Path,
        updates: Path,
        preferences: Callable[[], Preferences],
        *,
        cards: Sequence[str] = (),
        on_change: Callable[[], None],
        on_runtime: Callable[[], None],
        on_release: Callable[[Release], None],
    ) -> None:
        self.installation = read_installation()
        self._cards = cards
        self._on_change = on_change
        self._on_runtime = on_runtime
        self._on_release = on_release
        self.handed_over: str | None = None
        """The version to start when agentd has stopped."""
        self.start_again = False
        """Whether this program was replaced: start the new one when agentd has stopped."""
        self._runtimes: Runtimes | None = None
        self._releases: Releases | None = None
        self.release: Release | None = None
        """The newer release, if one is known."""
        self._offers: list[Offer] = []
        self._fetching: asyncio.Task[object] | None = None
        if self.installation.kind is InstallKind.SOURCE:
            return
        from pleb_agent.updates.download import Route
        from pleb_agent.updates.releases import Releases
        from pleb_agent.updates.repository import Source
        from pleb_agent.updates.runtimes import Runtimes

        source = Source(self.installation, updates, lambda: Route(preferences().proxy))
        self._runtimes = Runtimes(runtimes, self.installation, source)
        self._releases = Releases(self.installation, source)

    def runtime_path(self, device: str = CPU) -> Path | None:
        """Return the folder of packages of a device's worker, of the newest kind that serves it.

        None: they are part of this Python, or not here yet.
        """
        if self._runtimes is None:
            return None
        kinds = [kind for kind in self._runtimes.kinds() if serves(kind, device)]
        return self._runtimes.path(max(kinds, key=version_of)) if kinds else None

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
                and any(serves(one.kind, card) for card in self._cards)
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
            if self._runtimes.path() is None:
                self.begin_runtime("cpu")  # without torch the worker cannot start
            await asyncio.sleep(_FIRST_CHECK_SECONDS)
            if hours % _CHECK_HOURS == 0:
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

    async def _fetch(self, runtimes: Runtimes, kind: str) -> None:
        try:
            await runtimes.fetch(kind, lambda _: self._on_change())
        except (PlebError, OSError) as error:
            _LOG.warning("runtime", extra={"problem": str(error)})
        else:
            self._on_runtime()
        self._on_change()

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
                self._on_release(found)
            self._on_change()
