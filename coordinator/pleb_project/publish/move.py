"""Moving a project to another coordinator: the same root key, versions and hosts go on there.

    the old one finishes its round -> download what the project is -> publish it at the new one
    -> the old one, and mirrors, send agents there

If the old coordinator is lost, a mirror has all but the open round and hosts' credit. When it comes
back, `left` tells it, and fetches the credit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_project.publish.left import records_of, tell
from pleb_project.publish.rules import blobs_of, next_metadata, self_signed
from pleb_project.publish.send import Brought
from pleb_project.server.status import decode_status
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import History
from pleb_shared.protocol.project import CoordinatorAddress, ShardList
from pleb_shared.protocol.sealing import put_in_box, seal, unseal, write_reading
from pleb_shared.protocol.unit import VersionSource
from pleb_shared.protocol.version_log import LogEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.publish.publisher import Publisher
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.client import Address, Coordinator
    from pleb_project.server.records import ProjectRecord
    from pleb_shared.protocol.messages import PublishAnswer
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.sealing import Reading
    from pleb_shared.protocol.signing import SigningKey
    from pleb_shared.protocol.unit import Blob

__all__ = ["Moved", "Mover", "finish_round"]

_LOOK_SECONDS: Final = 1.0
_STRAGGLER_SECONDS: Final = 60.0
"""After the last round, what is still computed or undecided is waited for so long, or as long as
the round took: its hosts get credit, and the version is made already."""


class _Newest(msgspec.Struct, frozen=True):
    """What of a version's line is needed here."""

    epoch: int
    number: int
    source: VersionSource | None
    outer_state: str
    snapshot: str = ""


@dataclass(frozen=True)
class Moved:
    """A project at its new coordinator."""

    record: ProjectRecord
    version: int
    """It goes on from there."""
    told: bool
    """Whether the old coordinator sends agents on."""
    credit: bool
    """Whether hosts have their credit there, as the old coordinator has signed it."""


def finish_round(
    old: Publisher, project: str, note: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Have the coordinator finish the open round and begin no other one; wait for it.

    Raises:
        PlebError: as `Publisher.publish`.
    """
    old.set_activity(project, "finishing", note)
    old.say("The open round is finished first, so that no unit is lost.")
    opened_at = old.clock()
    end: float | None = None
    while True:
        status, now = decode_status(old.coordinator.status(project)), old.clock()
        if status.round is not None and status.state == "active":
            opened_at = min(opened_at, status.round.opened_at)
        else:
            end = end or now + max(_STRAGGLER_SECONDS, now - opened_at)
            left = status.counts.in_flight + status.counts.undecided
            if not left or now >= end:
                return
        sleep(_LOOK_SECONDS)


@dataclass(frozen=True)
class Mover:
    """Moves a project from `source` to the coordinator of `new`.

    `left` is where it has been; `source` is that coordinator, or a mirror.
    """

    source: Coordinator
    left: Address
    new: Publisher
    blobs: BlobFolder

    def move(self, project: str, invite: str | None) -> Moved:
        """Move it; harmless to repeat.

        Raises:
            InputError: what the source has of the project cannot be gone on from.
            PlebError: refused, unreachable, another's project; the message says what to do.
        """
        signer = self.new.signer
        with self.new.home.hold(project):
            envelope = self.source.metadata(project)
            before = self_signed(envelope)
            if before.access == "invited" and self.is_mirror:
                raise InputError(
                    f"{project} is private, and a mirror has no keys: move it while its "
                    "coordinator runs, or restore that from a backup."
                )
            root = signer.keys.root(project, before)
            answer, reading = signer.sender(root).ask(project, invite)
            keys = self._keys_for(before, root, answer, reading)
            version, history, wanted = self._download(before)
            records = None
            if not self.is_mirror and not answer.number:  # else they were brought before
                records = records_of(self.source, self.new, root, project, self._put)
            record = self.new.home.record(project)
            known = msgspec.structs.replace(
                before, number=max(before.number, record.number if record else 0)
            )
            address = self.new.coordinator.address
            draft = msgspec.structs.replace(
                known,
                coordinator=CoordinatorAddress(url=address.url, certificate=address.certificate),
                activity="active" if known.activity == "finishing" else known.activity,
            )
            metadata = next_metadata(draft, known, signer.publication(root, draft))
            brought = Brought(history, records, keys)
            record = signer.put(metadata, root, wanted, self.blobs, invite, brought)
            if keys is not None:
                self._remember_keys(project, root)
            told = not self.is_mirror and tell(self.source, record, self.new.say)
            if not told:
                untold = [*(one for one in record.untold if one != str(self.left)), str(self.left)]
                record = msgspec.structs.replace(record, untold=untold)
                self.new.home.remember(record)
        return Moved(record, version, told, bool(records or answer.number))

    def _keys_for(
        self,
        metadata: ProjectMetadata,
        root: SigningKey,
        answer: PublishAnswer,
        reading: Reading | None,
    ) -> bytes | None:
        """Return a private project's keys in a box for the new coordinator; None: it is public.

        Raises:
            InputError: somebody on the way could read them, or the keys are not here.
        """
        if metadata.access == "public":
            return None
        own = self.source.reading
        if own is None or reading is None or answer.seal_to is None:
            raise InputError(
                f"The keys of {metadata.project} are not here: move it with the home by which it "
                "was published (--home)."
            )
        self.new.coordinator.read_with(reading)
        return put_in_box(write_reading(own), answer.seal_to, root.fingerprint)

    def _remember_keys(self, project: str, root: SigningKey) -> None:
        """Keep by what the project is read at the new coordinator, with its new key."""
        _, reading = self.new.signer.sender(root).ask(project, None)
        if reading is not None:
            self.new.coordinator.read_with(self.new.home.remember_reading(project, reading))

    def _put(self, data: bytes) -> Blob:
        """Put what was gathered beside the blobs; of a private project it is sealed."""
        own = self.source.reading
        return self.blobs.put(data if own is None else seal(data, own.newest))

    @property
    def is_mirror(self) -> bool:
        """Whether the source only has files: it can neither be told nor sign anything."""
        return self.source.address.url != self.left.url

    def _download(self, metadata: ProjectMetadata) -> tuple[int, History, list[Blob]]:
        """Gather all that the project is; return its newest version, history and blobs."""
        project = metadata.project
        lines = self.source.file(project, "log.jsonl")
        entries = self.source.file(project, "log-entries")
        newest = self._newest(metadata, lines)
        versions = [
            strict_json.decode(line, LogEntry, most_bytes=LIMITS.message_bytes)
            for line in entries.split(b"\n")
            if line
        ]
        envelopes = b"\n".join(self._earlier(project, n) for n in range(1, metadata.number + 1))
        history = History(
            versions=self._put(lines),
            entries=self._put(entries),
            metadata=self._put(envelopes),
        )
        self._fetch(metadata.data.shards.digest)
        listed = self.blobs.get(metadata.data.shards.digest)
        own = self.source.reading
        shards = strict_json.decode(
            listed if own is None else unseal(listed, own.keyring),
            ShardList,
            most_bytes=LIMITS.shard_list_bytes,
        )
        named = blobs_of(metadata, [shard.blob for shard in [*shards.train, *shards.holdout]])
        named += [entry.results for entry in versions if entry.results is not None]
        if newest.source is not None:
            named += [newest.source.snapshot, *newest.source.differences]
        self.new.say(f"Downloading {len(named)} files of version {newest.number}")
        for blob in named:
            self._fetch(blob.digest)
        unnamed = filter(None, (newest.outer_state, newest.snapshot))
        named += [self._fetch(digest) for digest in unnamed]
        return newest.number, history, list({blob.digest: blob for blob in named}.values())

    def _newest(self, metadata: ProjectMetadata, lines: bytes) -> _Newest:
        try:
            *_, last = (line for line in lines.split(b"\n") if line)
            newest = msgspec.json.decode(last, type=_Newest)
        except (ValueError, msgspec.DecodeError) as error:
            raise InputError(
                f"{self.source.address.url} has no list of {metadata.project}'s versions that can "
                "be read: give another mirror (--from), or try again."
            ) from error
        if newest.epoch != metadata.epoch or newest.source is None:
            raise InputError(
                f"{self.source.address.url} does not have the newest version of "
                f"{metadata.project} whole: try again, or give another mirror (--from)."
            )
        return newest

    def _earlier(self, project: str, number: int) -> bytes:
        """Return earlier metadata; of a restored coordinator some may be missing."""
        if self.is_mirror:
            return self.source.file(project, f"metadata-{number}")
        return self.source.metadata_at(project, number)

    def _fetch(self, digest: str) -> Blob:
        path = self.blobs.path(digest)
        return self.blobs.put(self.blobs.get(digest) if path.exists() else self.source.blob(digest))
