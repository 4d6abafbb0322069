"""A private project's draft and files as they are published: sealed with the project's key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.project import Shard, ShardList
from pleb_shared.protocol.sealing import seal

if TYPE_CHECKING:
    from pleb_project.readers.blobs import BlobFolder
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.sealing import ProjectKey, Reading
    from pleb_shared.protocol.unit import Blob

__all__ = ["key_for", "sealed_draft"]


def key_for(reading: Reading, before: ProjectMetadata | None, *, new_epoch: bool) -> ProjectKey:
    """Return the key to seal with: the newest one, or in an epoch that goes on the one it has.

    The same files have the same digests then, as an epoch needs. Who was removed has read them.
    """
    if before is None or new_epoch or before.access == "public":
        return reading.newest
    keys = {key.number: key for key in reading.keyring.values()}
    return keys.get(before.sealed_with, reading.newest)


@dataclass(frozen=True)
class _Sealer:
    blobs: BlobFolder
    key: ProjectKey

    def seal(self, blob: Blob) -> Blob:
        """Put the sealed bytes of a blob beside it; return their name."""
        return self.blobs.put(seal(self.blobs.get(blob.digest), self.key))

    def shard(self, shard: Shard) -> Shard:
        """Seal a shard."""
        blob = self.seal(shard.blob)
        return replace(shard, digest=blob.digest, size=blob.size, root=blob.root)


def sealed_draft(
    draft: ProjectMetadata, blobs: BlobFolder, key: ProjectKey
) -> tuple[ProjectMetadata, list[Blob]]:
    """Return the draft of a private project, and its sealed shards; all are in `blobs` then.

    The same draft under the same key is the same again.

    Raises:
        InputError: a file is missing, or was changed on disk.
    """
    seals = _Sealer(blobs, key)
    data = blobs.get(draft.data.shards.digest)
    listed = strict_json.decode(data, ShardList, most_bytes=LIMITS.shard_list_bytes)
    shards = ShardList(
        train=[seals.shard(shard) for shard in listed.train],
        holdout=[seals.shard(shard) for shard in listed.holdout],
    )
    model, shown = draft.model, draft.showcase
    if shown is not UNSET:
        shown = replace(shown, graph=seals.seal(shown.graph), card=seals.seal(shown.card))
    base = None if model.base is None else replace(model.base, blob=seals.seal(model.base.blob))
    sealed = replace(
        draft,
        access="invited",
        sealed_with=key.number,
        model=replace(model, initial=seals.seal(model.initial), base=base),
        training_graph=seals.seal(draft.training_graph),
        evaluation_graph=seals.seal(draft.evaluation_graph),
        showcase=shown,
        chunks=[
            replace(chunk, training_graph=seals.seal(chunk.training_graph))
            for chunk in draft.chunks
        ],
        data=replace(draft.data, shards=blobs.put(seal(strict_json.encode(shards), key))),
    )
    return sealed, [shard.blob for shard in [*shards.train, *shards.holdout]]
