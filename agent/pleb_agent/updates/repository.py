"""A TUF repository, seen from the agent: which signed files there are, and their bytes."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec
from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import Updater

from pleb_agent.updates.download import HttpxFetcher, Route, download
from pleb_agent.updates.errors import (
    NoAddressError,
    NoRoomError,
    SourceUnreachableError,
    UntrustedSourceError,
)
from pleb_agent.updates.offers import Facts, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pleb_agent.program.installed import Installation

__all__ = ["NO_ADDRESS", "Source"]

NO_ADDRESS: Final = (
    "This agent was built without an update address, so it can fetch nothing by itself: "
    "get a build with one from where you got this."
)


class Source:
    """The repository that this installation was built for.

    `folder` keeps its verified metadata and what has arrived of downloads.
    """

    def __init__(
        self, installation: Installation, folder: Path, route: Callable[[], Route] = Route
    ) -> None:
        self._installation = installation
        self._folder = folder
        self._route = route
        self._one_at_a_time = asyncio.Lock()
        self._arriving: set[str] = set()

    @property
    def has_address(self) -> bool:
        """Whether there is anything to ask."""
        return self._installation.has_updates

    async def targets(self) -> list[Target]:
        """Return what the repository offers now, verified from the root down.

        Raises:
            NoAddressError: this build has no repository.
            SourceUnreachableError: try again later.
            UntrustedSourceError: signatures, versions or dates are not right.
        """
        self._check_address()
        async with self._one_at_a_time:
            targets = await asyncio.to_thread(self._refresh)
        offered = self._arriving | {target.sha256 for target in targets}
        for path in self._downloads.glob("*"):  # beginnings of files that are not offered any more
            if path.name not in offered:
                path.unlink(missing_ok=True)
        return targets

    async def download(
        self, target: Target, on_progress: Callable[[int, int], None] = lambda _done, _total: None
    ) -> Path:
        """Return a verified copy of the target, in this source's folder; the caller removes it.

        Raises:
            NoRoomError: the disk is too full for the file and what is in it.
            SourceUnreachableError: broken off; the next call resumes there.
            UntrustedSourceError: other bytes than the signed ones.
        """
        self._check_address()
        self._downloads.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._downloads / target.sha256
        present = path.stat().st_size if path.exists() else 0
        needed = target.bytes_total - present + target.facts.unpacked_bytes
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise NoRoomError(
                f"{target.path} needs {needed >> 20} MiB and the disk has {free >> 20} MiB free: "
                "free some space, then try again."
            )
        folder, _, name = target.path.rpartition("/")
        url = f"{self._url('targets')}/{folder}/{target.sha256}.{name}"
        self._arriving.add(target.sha256)
        try:
            async with self._route().async_client(url) as client:
                await download(client, url, target, path, on_progress)
        finally:
            self._arriving.discard(target.sha256)
        return path

    @property
    def _downloads(self) -> Path:
        return self._folder / "downloads"

    def _check_address(self) -> None:
        if not self.has_address:
            raise NoAddressError(NO_ADDRESS)

    def _url(self, part: str) -> str:
        return f"{self._installation.update_url.rstrip('/')}/{part}"

    def _refresh(self) -> list[Target]:
        metadata = self._folder / "metadata"
        metadata.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with self._route().client(self._installation.update_url) as client:
                Updater(
                    str(metadata),
                    self._url("metadata"),
                    fetcher=HttpxFetcher(client),
                    bootstrap=self._installation.root,
                ).refresh()
            # What `refresh` has just verified; the updater itself returns no list.
            targets = Metadata[Targets].from_file(str(metadata / "targets.json")).signed
        except ExpiredMetadataError as error:
            raise UntrustedSourceError(
                f"The list of updates is out of date ({error}): this PC's clock is wrong, or "
                "somebody holds back newer lists. Nothing was taken."
            ) from error
        except RepositoryError as error:
            raise UntrustedSourceError(
                f"The list of updates is not signed as it must be ({error}). Nothing was taken."
            ) from error
        except (DownloadError, httpx.HTTPError) as error:
            raise SourceUnreachableError(
                f"The updates at {self._installation.update_url} cannot be reached "
                f"({error.__cause__ or error}); it will be tried again."
            ) from error
        found = []
        for file in targets.targets.values():
            with suppress(msgspec.ValidationError):  # a later format: it is for later agents
                facts: Any = msgspec.convert(file.custom, Facts)
                found.append(Target(file.path, file.length, file.hashes["sha256"], facts))
        return found
