"""Private keys on disk: one file each, only for the user, written durably before it is used."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.sealing import read_reading, write_reading
from pleb_shared.protocol.signing import SigningKey
from pleb_system.durable import write_durably
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.sealing import Reading

__all__ = ["KeyStore"]

_MOST_BYTES: Final = 1000


class KeyStore:
    """The folder `HOME/keys`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self, link: AttachLink) -> tuple[str, str]:
        """Return the file names of a project's host key and account key."""
        place = hashlib.sha256(f"{link.base_url}#{link.root}".encode()).hexdigest()[:12]
        return f"{link.project}-{place}.host.key", f"{link.project}-{place}.account.key"

    def of_card(self, name: str, device: str) -> str:
        """Return the file name of a card's host key. `name`: of the processor's."""
        return f"{device}.{name}"

    def of_cards(self, name: str, device: str) -> list[str]:
        """Return the names of the cards' host keys that are here. `name`: of `device`'s."""
        return [path.name for path in self.folder.glob(f"*.{name.removeprefix(f'{device}.')}")]

    def load_or_make(self, name: str) -> SigningKey:
        """Return the key in the file; without a file, generate and save one."""
        if not (self.folder / name).exists():
            self.save(name, SigningKey.generate())
        return self.load(name)

    def save(self, name: str, key: SigningKey) -> None:
        """Save this key under the name."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = key.to_bytes().hex() + "\n"
        write_durably(self.folder / name, text.encode("ascii"), private=True)

    def load(self, name: str) -> SigningKey:
        """Return the key in the file.

        Raises:
            InputError: it is not there or not a key.
        """
        try:
            seed = bytes.fromhex(
                read_regular(self.folder / name, _MOST_BYTES).decode("ascii").strip()
            )
            return SigningKey.from_bytes(seed)
        except (OSError, ValueError) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else "it is no key"
            raise InputError(
                f"The key file {name} cannot be read ({reason}); restore it, or detach and attach "
                "the project again."
            ) from error

    def reading(self, name: str) -> Reading | None:
        """Return by what a host reads a private project; None: it is public. `name`: of its key.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            return read_reading(read_regular(self._reading(name), LIMITS.message_bytes))
        except FileNotFoundError:
            return None
        except (OSError, Refusal) as error:
            raise InputError(
                f"The keys of a private project cannot be read ({error}); detach and attach it "
                "again."
            ) from error

    def keep_reading(self, name: str, reading: Reading) -> None:
        """Keep by what a host reads a private project."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self._reading(name), write_reading(reading), private=True)

    def _reading(self, name: str) -> Path:
        return self.folder / f"{name}.reading"

    def has_accounts(self) -> bool:
        """Whether there is a key of any account."""
        return any(self.folder.glob("*.account.key"))

    def forget(self, *names: str) -> None:
        """Delete keys."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
            self._reading(name).unlink(missing_ok=True)

    def exposed(self) -> list[str]:
        """Return the names of key files that other users may read."""
        if os.name == "nt" or not self.folder.is_dir():
            return []
        others = stat.S_IRWXG | stat.S_IRWXO
        return sorted(path.name for path in self.folder.iterdir() if path.stat().st_mode & others)
