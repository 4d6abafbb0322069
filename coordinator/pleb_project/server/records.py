"""What this PC remembers of published projects: where they are, and what it signed for them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol.ids import AttachLink, parse_attach_link
from pleb_shared.protocol.sealing import KnownKey, Reading, read_reading, write_reading
from pleb_system.durable import write_durably
from pleb_system.lock import hold_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Home", "ProjectRecord", "read_reading_file"]


class ProjectRecord(msgspec.Struct, frozen=True):
    """A published project."""

    project: str
    attach_link: str
    number: int = 0
    """The highest metadata number that was signed here, whether or not it ever arrived."""
    epoch: int = 0
    """The highest epoch that was signed here. A coordinator that was restored from a backup knows
    lower ones than the agents; they take nothing below what they have seen."""
    metadata: str = ""
    """The envelope that the coordinator confirmed last."""
    permission_ends_at: int = 0
    """When the delegation in it ends, in seconds since 1970; 0: not known."""
    family: str = ""
    """The name of the family that it is a member of; empty: none."""
    online_keys: list[str] = []
    """Fingerprints of the online keys that were delegated to, the newest one last."""
    untold: list[str] = []
    """Addresses of coordinators that the project has left while they could not be told."""

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

    def next_root_key_file(self, project: str) -> Path:
        """Return where the next root key is while the coordinator has not confirmed it."""
        return self.path / "keys" / f"{project}.root.next.key"

    @contextmanager
    def hold(self, project: str) -> Iterator[None]:
        """Hold the project's keys and record: a renewal must not run into a rotation.

        Raises:
            HomeInUseError: another command signs for this project.
        """
        folder = self.path / "keys"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold_lock(folder / f"{project}.lock", holder="`pleb-project`", remedy="wait for it"):
            yield

    def reading(self, project: str) -> Reading | None:
        """Return by what this home reads a private project; None: it is public, or not known.

        Raises:
            InputError: the file cannot be read.
        """
        file = self._reading_file(project)
        return read_reading_file(file) if file.exists() else None

    def remember_reading(self, project: str, reading: Reading) -> Reading:
        """Keep by what a private project is read, with the keys that were kept before."""
        before = self.reading(project)
        earlier = [] if before is None else before.keys
        keys = {known.number: known for known in [*earlier, *reading.keys]}
        merged = msgspec.structs.replace(reading, keys=sorted(keys.values(), key=_number_of))
        file = self._reading_file(project)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(file, write_reading(merged), private=True)
        return merged

    def _reading_file(self, project: str) -> Path:
        return self.path / "keys" / f"{Path(project).name}.reading"

    def build_folder(self, project: str) -> Path:
        """Return where the project's blobs are gathered."""
        return self.path / "build" / project

    def remember(self, record: ProjectRecord) -> None:
        """Write the record of a project."""
        file = self._record(record.project)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, msgspec.json.encode(record), shared=True)

    def record(self, project: str) -> ProjectRecord | None:
        """Return what is remembered of a project; None: it was not published from here."""
        try:
            return msgspec.json.decode(self._record(project).read_bytes(), type=ProjectRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def records(self) -> list[ProjectRecord]:
        """Return all published projects by name."""
        names = sorted(file.stem for file in (self.path / "projects").glob("*.json"))
        return [record for name in names if (record := self.record(name)) is not None]

    def family(self, name: str) -> list[ProjectRecord]:
        """Return the members of a family that were published from here, in the order of numbers."""
        members = [record for record in self.records() if name and record.family == name]
        return sorted(members, key=lambda record: (len(record.project), record.project))

    def find_all(self, text: str) -> list[AttachLink]:
        """Return the links of all members of the family of that name, else the one that `find` has.

        Raises:
            InputError: as `find`.
        """
        return [record.link for record in self.family(text)] or [self.find(text)]

    def find(self, text: str) -> AttachLink:
        """Return the link that `text` is, or that of the published project of that name.

        Raises:
            InputError: it is neither.
        """
        if "://" in text:
            return parse_attach_link(text)
        record = self.record(text)
        if record is None:
            raise InputError(
                f"No project {text!r} was published from {self.path}: give its attach link, or "
                "--home."
            )
        return record.link

    def _record(self, project: str) -> Path:
        return self.path / "projects" / f"{Path(project).name}.json"


def read_reading_file(file: Path) -> Reading:
    """Return by what a private project is read, as `pleb-agent reader` or `publish` wrote it.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return read_reading(file.read_bytes())
    except (OSError, Refusal) as error:
        raise InputError(
            f"{file} is no file by which a private project is read ({error}): a member makes one "
            "with `pleb-agent reader PROJECT --to FILE`."
        ) from error


def _number_of(known: KnownKey) -> int:
    return known.number
