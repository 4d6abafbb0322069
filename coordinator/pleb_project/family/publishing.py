"""Publishing a project file: one project, or all members of the family that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_project.check.draft import make_draft
from pleb_project.family.members import as_member, like_first, members_of, same_beginnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.publish.publisher import Publisher
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.records import ProjectRecord
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["publish_all"]


def publish_all(
    publisher: Publisher,
    whole: ProjectDefinition,
    first: ProjectMetadata,
    blobs: BlobFolder,
    say: Callable[[str], None],
    *,
    invite: str | None = None,
    new_epoch: bool = False,
) -> list[ProjectRecord]:
    """Publish every member of the family that `whole` makes, the first one first.

    All have one root key, so they belong to one person, and the coordinator takes the others
    without an invite. A command that was interrupted is run again: it publishes what is missing.

    Args:
        publisher: signs and sends.
        whole: the project file's definition.
        first: the first member's metadata, checked; what was measured holds for all.
        blobs: data and models; those of the other members are added.
        say: gets the progress.
        invite: a publisher's, for a project or a family that is new at the coordinator.
        new_epoch: start training again from version 0.

    Raises:
        PlebError: as `Publisher.publish`.
    """
    members = members_of(whole)
    drafts = [first]
    for number, member in enumerate(members[1:], 2):
        say(f"Exporting member {number} of {len(members)}")
        draft = make_draft(member, blobs).metadata
        drafts.append(like_first(as_member(draft, whole, blobs), first))
    if warning := same_beginnings(drafts):
        say(f"! {warning}")
    return [
        publisher.publish(
            draft,
            blobs,
            invite=invite if draft is first else None,
            new_epoch=new_epoch,
            first_member=None if draft is first else first.project,
        )
        for draft in drafts
    ]
