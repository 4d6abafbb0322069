"""What this PC remembers of published projects: where they are, and under which root key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import AttachLink, parse_attach_link
from pleb_system.durable import write_durably

__all__ = ["Home", "ProjectRecord"]


class ProjectRecord(msgspec.Struct, frozen=True):
    """A published project."""

    project: str
    attach_link: str

    @property
    def link(self) -> AttachLink:
        """The attach link in its parts."""
        return parse_attach_link(self.attach_link)


@dataclass(frozen=True)
class Home:
    """The researcher's folder: `keys/`, `projects/` (records) and `build/` (blobs)."""

    path: Path

    def root_key_file(self, project: str) -> Path:
        """Return where the project's root key is."""
        return self.path / "keys" / f"{project}.root.key"

    def build_folder(self, project: str) -> Path:
        """Return where the project's blobs are gathered."""
        return self.path / "build" / project

    def remember(self, record: ProjectRecord) -> None:
        """Write the record of a project."""
        file = self._record(record.project)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, msgspec.json.encode(record), shared=True)

    def find(self, text: str) -> AttachLink:
        """Return the link that `text` is, or that of the published project of that name.

        Raises:
            InputError: it is neither.
        """
        if "://" in text:
            return parse_attach_link(text)
        try:
            data = self._record(text).read_bytes()
            return msgspec.json.decode(data, type=ProjectRecord).link
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(
                f"No project {text!r} was published from {self.path}: give its attach link, or "
                "--home."
            ) from error

    def _record(self, project: str) -> Path:
        return self.path / "projects" / f"{Path(project).name}.json"
