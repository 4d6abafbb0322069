"""Coordinators that a project has left: what they sign of its hosts, and telling them that it left.

One that was away while the project moved issues units again when it comes back, to hosts that have
not heard of the move. So its address is kept until it was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pleb_project.publish.rules import next_metadata
from pleb_project.publish.send import Brought, Sender
from pleb_project.server.client import Coordinator, parse_address
from pleb_shared.errors import Refusal
from pleb_shared.protocol.fleet_records import BroughtRecords
from pleb_system.network_errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.publish.publisher import Publisher
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.records import ProjectRecord
    from pleb_shared.protocol.signing import SigningKey
    from pleb_shared.protocol.unit import Blob

__all__ = ["records_of", "tell", "tell_left"]


def records_of(
    old: Coordinator,
    new: Publisher,
    root: SigningKey,
    project: str,
    put: Callable[[bytes], Blob],
) -> BroughtRecords | None:
    """Return what the old coordinator signs of the project's hosts; None: it refuses to.

    `put` keeps its lines, to be uploaded.

    Raises:
        NetworkError: it does not answer.
    """
    try:
        head, lines = Sender(old, root, new.clock, new.say).ask_records(project)
    except Refusal as refusal:
        new.say(f"The hosts' credit does not come along: {refusal}")
        return None
    return BroughtRecords(head=head, lines=put(lines))


def tell(old: Coordinator, record: ProjectRecord, say: Callable[[str], None]) -> bool:
    """Tell a coordinator that the project has left it, so that it sends hosts on.

    Returns whether it knows; the project is at the new one already.
    """
    try:
        old.hand_in(record.project, record.metadata.encode())
    except (NetworkError, Refusal) as error:
        say(f"The old coordinator could not be told: {error}")
        return False
    return True


def tell_left(new: Publisher, project: str, blobs: BlobFolder) -> tuple[list[str], bool]:
    """Tell coordinators that could not be told before, and bring the credit that they sign.

    Returns:
        The addresses of those that still could not be told, and whether hosts' credit has come.

    Raises:
        PlebError: as `Publisher.publish`.
    """
    credit = False
    with new.home.hold(project):
        published = new.signer.published(project)
        root = new.signer.keys.root(project, published)
        record = new.home.record(project)
        untold = [] if record is None else record.untold
        for place in untold:
            record = new.home.record(project)
            with Coordinator(parse_address(place)) as old:
                if record is None or not tell(old, record, new.say):
                    continue
                records = records_of(old, new, root, project, blobs.put)
            if records is not None:
                credit |= _bring(new, project, root, blobs, records)
            record = new.home.record(project)
            if record is not None:
                left = [one for one in record.untold if one != place]
                new.home.remember(replace(record, untold=left))
        record = new.home.record(project)
    return ([] if record is None else record.untold), credit


def _bring(
    new: Publisher, project: str, root: SigningKey, blobs: BlobFolder, records: BroughtRecords
) -> bool:
    """Publish records with a renewal; False: others were taken over before."""
    signer = new.signer
    draft = signer.published(project)
    metadata = next_metadata(draft, draft, signer.publication(root, draft))
    try:
        signer.put(metadata, root, [], blobs, None, Brought(records=records))
    except Refusal as refusal:
        new.say(f"The hosts' credit does not come along: {refusal}")
        return False
    return True
