"""One publication at a coordinator: asked for, sent with its blobs, and looked at afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import PlebError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import (
    PayloadType,
    PublishAnswer,
    PublishQuestion,
    PublishReply,
    PublishRequest,
    RecordsRequest,
)
from pleb_shared.protocol.sealing import Box, read_reading
from pleb_shared.protocol.signing import SigningKey, open_envelope, sign_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.client import Coordinator
    from pleb_shared.protocol.fleet_records import BroughtRecords
    from pleb_shared.protocol.messages import History
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.sealing import Reading
    from pleb_shared.protocol.unit import Blob

__all__ = ["NOTHING", "Brought", "Sender"]


@dataclass(frozen=True)
class Brought:
    """What a project brings along from another coordinator."""

    history: History | None = None
    """It goes on from the newest version of these."""
    records: BroughtRecords | None = None
    """What that coordinator has signed of hosts."""
    keys: bytes | None = None
    """A private project's keys, in a box."""


NOTHING: Final = Brought()


@dataclass(frozen=True)
class Sender:
    """Sends what `root` has signed. `clock` returns seconds since 1970; `say` gets progress."""

    coordinator: Coordinator
    root: SigningKey
    clock: Callable[[], float]
    say: Callable[[str], None]

    def ask(self, project: str, invite: str | None) -> tuple[PublishAnswer, Reading | None]:
        """Return whether the root key may publish the project, before anything is computed.

        Beside the answer: by what the project is read and sealed if it is to be private; None: it
        is public.

        Raises:
            Refusal: it may not; the message says why.
            TrustError: the answer is another's.
        """
        now, box = int(self.clock()), Box()
        question = PublishQuestion(
            protocols=list(PROTOCOLS),
            project=project,
            invite=invite,
            root_key=self.root.public,
            issued_at=now,
            expires_at=now + LIMITS.request_lifetime_seconds,
            seal_to=box.public,
        )
        signed = sign_payload(strict_json.encode(question), PayloadType.PUBLISH_QUESTION, self.root)
        answer = self.coordinator.ask_to_publish(signed)
        online_key = self.coordinator.info().online_key
        found = open_envelope(answer, PayloadType.PUBLISH_ANSWER, PublishAnswer, online_key)
        if found.box is None:
            return found, None
        return found, read_reading(box.open(found.box, self.root.fingerprint))

    def ask_records(self, project: str) -> tuple[str, bytes]:
        """Return what the coordinator has signed of the project's hosts: head and lines.

        They are checked where they are brought.

        Raises:
            Refusal: the coordinator does not tell.
        """
        now = int(self.clock())
        asked = RecordsRequest(
            protocols=list(PROTOCOLS),
            project=project,
            root_key=self.root.public,
            issued_at=now,
            expires_at=now + LIMITS.request_lifetime_seconds,
        )
        signed = sign_payload(strict_json.encode(asked), PayloadType.RECORDS_REQUEST, self.root)
        head, _, lines = self.coordinator.records(project, signed).partition(b"\n")
        return head.decode("ascii", "replace"), lines

    def send(
        self,
        metadata: ProjectMetadata,
        envelope: bytes,
        wanted: list[Blob],
        blobs: BlobFolder,
        invite: str | None,
        brought: Brought = NOTHING,
    ) -> None:
        """Send the metadata in `envelope`, upload until no blob is missing, and look at it there.

        Raises:
            Refusal, PlebError: the coordinator does not take it, or serves something else.
        """
        uploaded: set[str] = set()
        while missing := self._publish(metadata, envelope, wanted, invite, brought):
            if missing.keys() <= uploaded:
                raise PlebError("The coordinator lacks blobs that were uploaded: check its log.")
            size = sum(blobs.path(digest).stat().st_size for digest in missing)
            self.say(f"Uploading {len(missing)} blobs, {size / 1e6:.3g} MB")
            for digest, token in missing.items():
                self.coordinator.upload(token, blobs.get(digest))
            uploaded |= missing.keys()
        if self.coordinator.metadata(metadata.project) != envelope:
            raise PlebError(
                f"The coordinator has taken metadata {metadata.number} of {metadata.project}, but "
                "serves other: another command published meanwhile, or something between here "
                "and there answers from a cache. Look at `pleb-project status`, then try again."
            )

    def _publish(
        self,
        metadata: ProjectMetadata,
        envelope: bytes,
        wanted: list[Blob],
        invite: str | None,
        brought: Brought,
    ) -> dict[str, str]:
        """Return the upload tokens of missing blobs by digest; empty: the metadata is in force."""
        now = int(self.clock())
        request = PublishRequest(
            protocols=list(PROTOCOLS),
            project=metadata.project,
            invite=invite,
            metadata=envelope.decode(),
            blobs=wanted,
            issued_at=now,
            expires_at=now + LIMITS.request_lifetime_seconds,
            history=brought.history,
            records=brought.records,
            keys=brought.keys,
        )
        signed = sign_payload(strict_json.encode(request), PayloadType.PUBLISH, self.root)
        answer = self.coordinator.publish(signed)
        online_key = metadata.delegation.online_key
        reply = open_envelope(answer, PayloadType.PUBLISH_REPLY, PublishReply, online_key)
        if reply.project != metadata.project:
            raise TrustError("The coordinator answered for another project: try again.")
        return {slot.digest: slot.upload for slot in reply.missing}
