"""Publishing a project file: one project, or all members of the family that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_project.check.draft import make_draft
from pleb_project.family.members import as_member, like_first, members_of, same_beginnings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_project.definition.sections import ProjectDefinition
    from pleb_project.publish.publisher import Publisher
    from pleb_project.readers.blobs import BlobFolder
    from pleb_project.server.records import ProjectRecord
    from pleb_shared.protocol.project import Access, ProjectMetadata

__all__ = ["ensemble_drafts", "publish_all"]


def ensemble_drafts(
    whole: ProjectDefinition,
    first: ProjectMetadata,
    blobs: BlobFolder,
    say: Callable[[str], None],
) -> list[ProjectMetadata]:
    """Return what every member of an ensemble publishes; a project alone is its only member.

    Args:
        whole: the project file's definition.
        first: the first member's metadata, checked; what was measured holds for all.
        blobs: data and models; those of the other members are added.
        say: gets the progress.
    """
    members = members_of(whole)
    drafts = [first]
    for number, member in enumerate(members[1:], 2):
        say(f"Exporting member {number} of {len(members)}")
        draft = make_draft(member, blobs).metadata
        drafts.append(like_first(as_member(draft, whole, blobs), first))
    if warning := same_beginnings(drafts):
        say(f"! {warning}")
    return drafts


def publish_all(
    publisher: Publisher,
    drafts: Sequence[ProjectMetadata],
    blobs: BlobFolder,
    *,
    invite: str | None = None,
    new_epoch: bool = False,
    access: Access = "public",
) -> list[ProjectRecord]:
    """Publish every member of a family, the first one first, or a project alone.

    All have one root key, so they belong to one person, and the coordinator takes the others
    without an invite. A command that was interrupted is run again: it publishes what is missing.

    Args:
        publisher: signs and sends.
        drafts: of all members, checked.
        blobs: data and models.
        invite: a publisher's, for a project or a family that is new at the coordinator.
        new_epoch: start training again from version 0.
        access: who may read it.

    Raises:
        PlebError: as `Publisher.publish`.
    """
    first = drafts[0]
    return [
        publisher.publish(
            draft,
            blobs,
            invite=invite if draft is first else None,
            new_epoch=new_epoch,
            first_member=None if draft is first else first.project,
            access=access,
        )
        for draft in drafts
    ]
