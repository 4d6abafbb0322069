"""The project's root key on this PC: made, opened, and replaced by the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pleb_project.keys.key_file import copy_key, create_key, read_key
from pleb_shared.errors import TrustError
from pleb_shared.protocol.signing import SigningKey
from pleb_system.durable import rename_durably

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_project.keys.key_file import StoredKey
    from pleb_project.keys.passphrase import Passphrases
    from pleb_project.server.records import Home
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["RootKeys"]


@dataclass(frozen=True)
class RootKeys:
    """The root keys in `home`; a passphrase is asked for once. `url` is the coordinator's."""

    home: Home
    url: str
    passphrases: Passphrases
    say: Callable[[str], None]
    _unlocked: dict[str, SigningKey] = field(default_factory=dict)
    """By public key."""

    def root(self, project: str, before: ProjectMetadata | None) -> SigningKey:
        """Return the root key, asking for its passphrase only if it is the right one.

        Raises:
            TrustError: `before`, what is published, is signed by another root key.
        """
        stored = read_key(self.home.root_key_file(project))
        if before is not None and before.root_key != stored.public:
            raise TrustError(
                f"The project {project!r} at {self.url} belongs to another root key: choose "
                "another name in [project], or give the --home with its key (the newest one, if "
                "it was rotated elsewhere)."
            )
        return self.open(stored, project)

    def open(self, stored: StoredKey, project: str) -> SigningKey:
        """Return the key of a file; its passphrase is asked for once."""
        if stored.public not in self._unlocked:
            self._unlocked[stored.public] = self.passphrases.unlock(stored, project)
        return self._unlocked[stored.public]

    def make_first(self, project: str) -> None:
        """Make the project's first root key, unless there is one already."""
        file = self.home.root_key_file(project)
        if file.exists() and file.stat().st_size:
            return
        passphrase = self.passphrases.choose(project)
        key = SigningKey.generate()
        create_key(file, key, passphrase)
        self._unlocked[key.public] = key
        self.passphrases.keep(key.public, passphrase)
        self.say(f"Made the root key {file}: keep a copy in a safe place.")

    def share_first(self, project: str, sibling: str) -> None:
        """Let a project that has no root key begin with the one of a member of its family."""
        file, theirs = self.home.root_key_file(project), self.home.root_key_file(sibling)
        if not (file.exists() and file.stat().st_size):
            copy_key(theirs, file)

    def next_root(self, project: str) -> SigningKey:
        """Return the key of a rotation that was begun, or begin one."""
        file = self.home.next_root_key_file(project)
        if not file.exists():
            passphrase = self.passphrases.choose(project)
            key = SigningKey.generate()
            create_key(file, key, passphrase)
            self._unlocked[key.public] = key
            self.passphrases.keep(key.public, passphrase)
        return self.open(read_key(file), project)

    def promote(self, project: str) -> None:
        """Put the next root key in the old one's place, whose file ends with that."""
        file = self.home.root_key_file(project)
        if file.exists():
            self.passphrases.keyring.forget(read_key(file).public)
        rename_durably(self.home.next_root_key_file(project), file)
        self.say(f"The new root key is in {file}: keep a copy of it, and destroy those of the old.")
