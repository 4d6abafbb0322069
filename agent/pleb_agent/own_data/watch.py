"""Keeps a project's shards of own data as its user's folder is, and says what is in the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.own_data.store import OwnStore
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["OwnData"]

_LOOK_SECONDS: Final = 60.0
"""How often a folder is looked at: it may have a million files."""


class OwnData:
    """A project's own data while the agent runs.

    `chosen` returns the user's folder, or None; `packages` as for `OwnStore.make`.
    """

    def __init__(
        self,
        store: OwnStore,
        chosen: Callable[[], Path | None],
        clock: Callable[[], float],
        packages: Callable[[], Path | None] = lambda: None,
    ) -> None:
        self.store = store
        self.problem = ""
        """What is wrong with the folder; empty: nothing, or none is chosen."""
        self._chosen = chosen
        self._clock = clock
        self._packages = packages
        self._looked: tuple[Path, int, float] | None = None
        """Which folder was looked at, for which metadata, and when."""

    @property
    def is_ready(self) -> bool:
        """Whether a unit can be trained on it."""
        return self._chosen() is not None and not self.problem and self.store.shards > 0

    async def refresh(self, metadata: ProjectMetadata) -> None:
        """Make the shards anew if the folder has changed, or there are none."""
        folder = self._chosen()
        if metadata.data.own is None or folder is None:
            self.problem, self._looked = "", None
            return
        now, seen = self._clock(), self._looked
        if (
            seen is not None
            and seen[:2] == (folder, metadata.number)
            and 0 <= now - seen[2] < _LOOK_SECONDS
            and (self.problem or self.store.shards)
        ):
            return
        try:
            if not await asyncio.to_thread(self.store.is_fresh, folder, metadata):
                await self.store.make(folder, metadata, self._packages())
            self.problem = ""
        except InputError as error:
            self.problem = f"Your data cannot be used: {error}"
        except PlebError as error:
            self.problem = str(error)
        self._looked = (folder, metadata.number, now)
