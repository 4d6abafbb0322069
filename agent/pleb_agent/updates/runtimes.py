"""The torch runtimes of a frozen agent: folders of packages that only its worker imports."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.program.installed import InstallKind, platform_tag, python_tag
from pleb_agent.updates.errors import NotOfferedError
from pleb_agent.updates.offers import Offer, RuntimeFacts, newest_runtimes, version_key
from pleb_agent.updates.repository import NO_ADDRESS
from pleb_agent.updates.unpack import install_archive
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.program.installed import Installation
    from pleb_agent.updates.repository import Source

__all__ = ["FACTS_FILE", "FetchState", "RuntimeState", "Runtimes"]

FACTS_FILE: Final = "pleb-runtime.json"


class FetchState(StrEnum):
    """Whether the runtime is there."""

    INSTALLED = "installed"
    MISSING = "missing"
    FETCHING = "fetching"
    FAILED = "failed"


@dataclass(frozen=True)
class RuntimeState:
    """What the faces show of it."""

    kind: str
    state: FetchState
    sentence: str
    bytes_done: int = 0
    bytes_total: int = 0


class Runtimes:
    """The runtimes below `folder`, one folder each, named as their targets.

    All methods are called from one event loop.
    """

    def __init__(self, folder: Path, installation: Installation, source: Source) -> None:
        self._folder = folder
        self._installation = installation
        self._source = source
        self._installed = self._look()
        self._state: RuntimeState | None = None
        """What a running or failed fetch says; None: see what is installed."""

    @property
    def needs_one(self) -> bool:
        """Whether the worker has no torch of its own: this is a frozen build."""
        return self._installation.kind is not InstallKind.SOURCE

    def path(self, kind: str = "cpu") -> Path | None:
        """Return the folder of packages for a worker, or None: there is none, or none is needed."""
        return self._installed[kind][0] if kind in self._installed else None

    def kinds(self) -> list[str]:
        """Return which kinds are installed."""
        return sorted(self._installed)

    def state(self, kind: str = "cpu") -> RuntimeState:
        """Return whether it is there; cheap."""
        if self._state is not None:
            return self._state
        if not self.needs_one:
            return RuntimeState(kind, FetchState.INSTALLED, "torch is part of this installation.")
        if kind in self._installed:
            torch = self._installed[kind][1].torch
            return RuntimeState(kind, FetchState.INSTALLED, f"torch {torch} is installed.")
        if not self._source.has_address:
            return RuntimeState(kind, FetchState.MISSING, NO_ADDRESS)
        return RuntimeState(
            kind, FetchState.MISSING, "torch is not here yet; it is fetched once, then kept."
        )

    async def offers(self) -> list[Offer]:
        """Return what can be fetched for this PC.

        Raises:
            UpdateError: the repository cannot be read.
        """
        found = newest_runtimes(await self._source.targets(), platform_tag(), python_tag())
        return [
            Offer(kind, facts.torch, target.bytes_total, facts.unpacked_bytes)
            for kind, target in sorted(found.items())
            if isinstance(facts := target.facts, RuntimeFacts)
        ]

    async def fetch(
        self,
        kind: str = "cpu",
        on_progress: Callable[[RuntimeState], None] = lambda _state: None,
    ) -> Path:
        """Fetch, verify and unpack the newest runtime of a kind; return its folder.

        An older one of the same kind is removed. Cancelled or broken off, it resumes the next
        time; `state()` says how far it is, and afterwards why it failed.

        Raises:
            UpdateError: with the reason; nothing that was installed is lost.
        """
        try:
            self._report(on_progress, RuntimeState(kind, FetchState.FETCHING, "Looking for torch."))
            path = await self._fetch(kind, on_progress)
        except (PlebError, OSError) as error:
            self._report(on_progress, RuntimeState(kind, FetchState.FAILED, str(error)))
            raise
        except asyncio.CancelledError:
            self._state = None
            raise
        self._state = None
        on_progress(self.state(kind))
        return path

    async def _fetch(self, kind: str, on_progress: Callable[[RuntimeState], None]) -> Path:
        found = newest_runtimes(await self._source.targets(), platform_tag(), python_tag())
        if kind not in found:
            raise NotOfferedError(
                f"There is no torch runtime {kind!r} for {platform_tag()} and Python "
                f"{python_tag()} at {self._installation.update_url} yet; try again later."
            )
        target = found[kind]
        total = target.bytes_total

        def arrived(done: int, _total: int) -> None:
            sentence = f"Fetching torch: {done >> 20} of {total >> 20} MB."
            self._report(
                on_progress, RuntimeState(kind, FetchState.FETCHING, sentence, done, total)
            )

        folder = self._folder / target.path.rpartition("/")[2].partition(".tar")[0]
        if self._installed.get(kind, (None,))[0] != folder:
            archive = await self._source.download(target, arrived)
            unpacking = RuntimeState(kind, FetchState.FETCHING, "Unpacking torch.", total, total)
            self._report(on_progress, unpacking)
            await install_archive(archive, target, folder, FACTS_FILE)
        self._installed = self._look()
        kept = {path for path, _ in self._installed.values()}
        for path in self._folder.glob(f"{kind}-*"):  # no worker of this agent will load them
            if path.is_dir() and path not in kept:
                shutil.rmtree(path, ignore_errors=True)
        return folder

    def _look(self) -> dict[str, tuple[Path, RuntimeFacts]]:
        """Return the newest installed runtime of each kind that this Python can load."""
        newest: dict[str, tuple[Path, RuntimeFacts]] = {}
        for path in sorted(self._folder.glob(f"*/{FACTS_FILE}")):
            try:
                facts = msgspec.json.decode(path.read_bytes(), type=RuntimeFacts)
            except (OSError, msgspec.MsgspecError):  # a later agent wrote it
                continue
            if (facts.platform, facts.python) != (platform_tag(), python_tag()):
                continue
            known = newest.get(facts.kind)
            if known is None or version_key(facts.torch) > version_key(known[1].torch):
                newest[facts.kind] = path.parent, facts
        return newest

    def _report(self, on_progress: Callable[[RuntimeState], None], state: RuntimeState) -> None:
        self._state = state
        on_progress(state)
