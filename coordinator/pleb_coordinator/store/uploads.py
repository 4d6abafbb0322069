"""Upload slots for deltas and blobs."""

from __future__ import annotations

from typing import Final

from pleb_coordinator.core.records import Upload
from pleb_coordinator.store.queries import uploads as sql
from pleb_coordinator.store.rows import Rows, TableGroup
from pleb_shared.errors import Refusal, RefusalCode

__all__ = ["Uploads"]

_UPLOAD: Final = Rows(Upload)


class Uploads(TableGroup):
    """Upload slots: open until they are complete, removed or expired."""

    def add(self, upload: Upload) -> None:
        """Add a slot."""
        self._db.execute(sql.ADD_UPLOAD, **_UPLOAD.parameters(upload))

    def get(self, token: str) -> Upload:
        """Return a slot. Raises `Refusal` unknown_upload."""
        upload = _UPLOAD.first(self._db.execute(sql.GET_UPLOAD, token=token))
        if upload is None:
            message = "There is no such upload (any more): report the result again."
            raise Refusal(RefusalCode.UNKNOWN_UPLOAD, message)
        return upload

    def of_assignment(self, assignment: int) -> Upload | None:
        """Return the open slot of an assignment, or None."""
        return _UPLOAD.first(self._db.execute(sql.UPLOAD_OF_ASSIGNMENT, assignment=assignment))

    def open_blob(self, project: int, digest: str) -> Upload | None:
        """Return the project's open slot for a blob, or None."""
        return _UPLOAD.first(self._db.execute(sql.OPEN_BLOB, project=project, digest=digest))

    def complete(self, token: str) -> bool:
        """Mark a slot as complete; False: it is already, or was removed."""
        return self._changed(sql.COMPLETE_UPLOAD, token=token)

    def land(self, token: str, now: float, until: float) -> bool:
        """Let a slot be checked in the background, and last until then; False: it does already."""
        return self._changed(sql.LAND_UPLOAD, token=token, now=now, until=until)

    def to_check(self, project: int, now: float, limit: int) -> list[Upload]:
        """Return what has landed and is to be checked by now, oldest first."""
        found = self._db.execute(sql.UPLOADS_TO_CHECK, project=project, now=now, limit=limit)
        return _UPLOAD.all(found)

    def any_landed(self, project: int) -> bool:
        """Whether something of the project has landed that was not checked yet."""
        return self._exists(sql.ANY_LANDED_UPLOAD, project=project)

    def check_at(self, token: str, at: float) -> None:
        """Let what has landed be checked at that time."""
        self._db.execute(sql.CHECK_UPLOAD_AT, token=token, at=at)

    def remove(self, token: str) -> None:
        """Remove a slot; one that is not there is fine."""
        self._db.execute(sql.REMOVE_UPLOAD, token=token)

    def any_expired(self, now: float) -> bool:
        """Whether there is an open slot that has expired."""
        return self._exists(sql.ANY_EXPIRED_UPLOAD, now=now)

    def take_expired(self, now: float, limit: int) -> list[tuple[str, int | None]]:
        """Remove open slots that have expired; return the token and assignment of each."""
        return list(self._db.execute(sql.TAKE_EXPIRED_UPLOADS, now=now, limit=limit))
