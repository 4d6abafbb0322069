"""Choosing, showing and forgetting the folder with the user's own data for a project."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pleb_agent.control.journal_reader import find_attached
from pleb_agent.control.views import OwnDataView
from pleb_agent.own_data.store import OwnStore, own_folder_of
from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.signing import peek_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.journal.rows import ProjectRow

__all__ = ["OwnDataControl"]

_MOST_CHARACTERS = 4000


@dataclass(frozen=True)
class OwnDataControl:
    """The folders of all projects. `work_dir`: of the processor's units."""

    journal: Journal
    keys: KeyStore
    work_dir: Path
    packages: Callable[[], Path | None] = lambda: None
    """The runtime's folder, of a frozen build."""
    patience_seconds: float = 60.0
    """How long choosing waits for the folder to be read; a mistake found by then changes nothing.
    """

    def show(self, project: str) -> OwnDataView:
        """Return which folder is chosen.

        Raises:
            InputError: no such project is attached, or it does not train on own data.
        """
        row = self._row(project)
        folder = self.journal.own_folder(row.id)
        if not folder:
            sentence = f"No folder with your data is chosen for {row.name}."
        elif self._store(row).shards:
            sentence = f"{row.name} trains on {folder}. Nothing in it leaves this PC."
        else:
            sentence = (
                f"{folder} is read; `pleb-agent status` says when something is wrong with it."
            )
        return OwnDataView(project=row.name, folder=folder, sentence=sentence)

    async def choose(self, project: str, folder: str) -> OwnDataView:
        """Read the folder as the project declares, and train on it from now on.

        One that takes longer to read than `patience_seconds` is chosen all the same.

        Raises:
            InputError: as `show`; or the folder cannot be read so: nothing has changed then.
        """
        row = self._row(project)
        path = Path(folder)
        if len(folder) > _MOST_CHARACTERS or "\0" in folder or not path.is_absolute():
            raise InputError("Give the whole path of the folder with your data.")
        with suppress(TimeoutError):  # a large one is read by the loop, which tells mistakes too
            async with asyncio.timeout(self.patience_seconds):
                for host in self.journal.hosts(row.id):
                    await self._store(host).make(path, _metadata(host), self.packages())
        self.journal.set_own_folder(row.id, str(path))
        return self.show(project)

    def forget(self, project: str) -> OwnDataView:
        """Train on it no more, and delete what was made of it; the folder itself stays.

        Raises:
            InputError: as `show`.
        """
        row = self._row(project)
        self.journal.set_own_folder(row.id, "")
        for host in self.journal.hosts(row.id):
            self._store(host).remove()
        return self.show(project)

    def _row(self, project: str) -> ProjectRow:
        row = find_attached(self.journal, project)
        if _metadata(row).data.own is None:
            raise InputError(f"{row.name} does not train on data of your own.")
        return row

    def _store(self, row: ProjectRow) -> OwnStore:
        seed = self.keys.load(row.host_key_file).to_bytes()
        return OwnStore(own_folder_of(self.work_dir, row.id), seed)


def _metadata(row: ProjectRow) -> ProjectMetadata:
    """Return a project's metadata, which was verified when it arrived."""
    payload = peek_payload(row.metadata, PayloadType.METADATA, most_bytes=LIMITS.metadata_bytes)
    return msgspec.json.decode(payload, type=ProjectMetadata)
