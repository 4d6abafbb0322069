"""The small world of `steps_world` as a private project, with members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pleb_coordinator.core.records import FileKind
from pleb_coordinator.steps.access import new_key_number
from pleb_coordinator.steps.invite import new_invite
from pleb_project.publish.sealed import sealed_draft
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.sealing import project_key
from tests.integration.steps_world import World

if TYPE_CHECKING:
    from pleb_coordinator.blobs.store import Blobs
    from pleb_shared.protocol.messages import PublishReply
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import Blob

HIDDEN = "a title that nobody else may read"


class StoreFolder:
    """A blob store as the researcher's folder of blobs."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def get(self, digest: str) -> bytes:
        return self._blobs.get(digest)

    def put(self, data: bytes) -> Blob:
        self._blobs.put(data)
        return blob_of(data)


class PrivateWorld(World):
    """A private project; what is published is sealed first, as `pleb-project publish` does."""

    def publish(
        self, metadata: ProjectMetadata | None = None, *, invite: bool = True
    ) -> PublishReply:
        if metadata is None:
            key = project_key(self.deps.secret, "tiny", new_key_number(self.deps))
            folder = cast("Any", StoreFolder(self.deps.blobs))
            open_blobs = {name for name, _ in self._stored()}
            self.metadata, _ = sealed_draft(self.metadata, folder, key)
            for name in open_blobs:  # they lay there only to be sealed
                self.deps.blobs.delete(name)
        return super().publish(metadata, invite=invite)

    def _stored(self) -> list[tuple[str, float]]:
        return list(self.deps.blobs.stored(FileKind.BLOB))

    def member_invite(self, *, project: str = "tiny", **options: Any) -> str:
        with self.store.write() as tx:
            role = options.pop("role", Role.HOST)
            seconds = options.pop("lifetime_seconds", 3600)
            return new_invite(
                tx, self.deps, role, lifetime_seconds=seconds, project=project, **options
            )
