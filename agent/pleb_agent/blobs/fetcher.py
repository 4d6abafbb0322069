"""The one place through which an agent gets blobs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from pleb_agent.blobs.errors import StalledError
from pleb_agent.blobs.fetch import STALL_SECONDS, BlobFetch, fault_of
from pleb_agent.blobs.source import Offer, SourceKind
from pleb_agent.cache.errors import CorruptBlobError
from pleb_shared.errors import Refusal
from pleb_system.network_errors import NetworkError, WrongBytesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pleb_agent.blobs.source import Source
    from pleb_agent.blobs.standing import Standings
    from pleb_agent.cache.blob_cache import BlobCache
    from pleb_agent.cache.part_file import PartFile
    from pleb_agent.cache.shard_cipher import ShardCipher
    from pleb_shared.protocol.unit import Blob

__all__ = ["BlobFetcher"]

_LEAF_TRIES: Final = 2
"""Sources that are asked for leaves before the coordinator: they are few bytes."""
_TRANSFERS: Final = 6
"""From neighbours and mirrors, of all blobs together: more of them only slow each other down."""
_LARGE_BYTES: Final = 8 * 2**20
"""The whole of such a blob is hashed in a thread."""


class BlobFetcher:
    """Fetches the blobs of one project into the cache, from whatever has them.

    `others`: returns the peers and mirrors that may have a blob. They are caches that can help and
    not hurt: without them, or with all of them bad, everything comes from `coordinator`. `came` is
    called after each part.
    """

    def __init__(
        self,
        cache: BlobCache,
        coordinator: Source,
        others: Callable[[Blob], Awaitable[Sequence[Offer]]],
        standings: Standings,
        came: Callable[[], None] = lambda: None,
    ) -> None:
        self._cache = cache
        self._coordinator = coordinator
        self._others = others
        self._standings = standings
        self._came = came
        self._places = asyncio.Semaphore(_TRANSFERS)
        self.received: Counter[SourceKind] = Counter()
        """Bytes by the kind of their source, wrong ones too, since the counter was last cleared."""
        self._fetches: dict[str, BlobFetch] = {}
        self.under_way: dict[str, PartFile] = {}
        """Blobs whose parts are coming, by digest: those that are there can be passed on."""

    def add(self, digest: str, offer: Offer) -> None:
        """Let one more source send parts of a blob that is under way; of others nothing happens."""
        fetch = self._fetches.get(digest)
        if fetch is not None:
            fetch.add(offer)

    def brings_in(self, digest: str) -> set[int]:
        """Return the parts of a blob that are read from other than neighbours now."""
        fetch = self._fetches.get(digest)
        return set() if fetch is None else fetch.brings_in()

    async def fetch(self, blob: Blob, cipher: ShardCipher | None = None) -> None:
        """Fetch a blob unless it is in the cache; with a cipher it is encrypted there.

        Raises:
            NetworkError: no source could send all of it; the parts that came are kept.
            Refusal: the coordinator does not have it, or not for us, and no other source has it.
            PlebError: the cache or the disk is full.
        """
        async with self._cache.fetching(blob, cipher):
            if not self._cache.has(blob, cipher):
                await self._download(blob, cipher)

    async def _download(self, blob: Blob, cipher: ShardCipher | None) -> None:
        now = asyncio.get_running_loop().time()
        offers = [
            offer
            for offer in await self._others(blob)
            if not self._standings.is_shunned(offer.source.name, now)
        ]
        whole = [offer.source for offer in offers if offer.whole()]
        leaves = await self._leaves(blob, whole[:_LEAF_TRIES])
        offers.append(Offer(self._coordinator))
        part = self._cache.part(blob, leaves, cipher)
        self.under_way[blob.digest] = part
        fetch = BlobFetch(part, offers, self._standings, self._count, self._came, self._places)
        self._fetches[blob.digest] = fetch
        try:
            await fetch.run()
            if blob.size > _LARGE_BYTES:
                await asyncio.to_thread(part.finish)
            else:
                part.finish()
        except CorruptBlobError as error:
            raise WrongBytesError(str(error)) from error
        finally:
            del self.under_way[blob.digest], self._fetches[blob.digest]
            part.close()

    async def _leaves(self, blob: Blob, others: Sequence[Source]) -> list[bytes]:
        """Return what the blob's parts hash to; none for a blob of one part."""
        if blob.root is None:
            return []
        kept = self._cache.leaves(blob)
        if kept is not None:
            return kept
        for source in others:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    return await self._leaves_from(source, blob)
            except TimeoutError:
                fault = fault_of(StalledError("No leaves came."))
            except (NetworkError, Refusal) as error:
                fault = fault_of(error)
            if fault is not None:
                self._standings.failed(source.name, fault, asyncio.get_running_loop().time())
        try:
            return await self._leaves_from(self._coordinator, blob)
        except Refusal as refusal:
            if fault_of(refusal) is not fault_of(WrongBytesError("")):
                raise
            raise WrongBytesError(f"{refusal} The agent tries again later.") from refusal

    async def _leaves_from(self, source: Source, blob: Blob) -> list[bytes]:
        data = await source.leaves(blob)
        self._count(source.kind, len(data))
        return self._cache.keep_leaves(blob, data)

    def _count(self, kind: SourceKind, amount: int) -> None:
        self.received[kind] += amount
