"""The keys of the repository of signed files that are available here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ONLINE_KEYS", "ROOT_KEYS", "ROOT_THRESHOLD", "KeyRing", "PublishingError"]

ROOT_KEYS: Final = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD: Final = 2
ONLINE_KEYS: Final = ("targets", "snapshot", "timestamp")


class PublishingError(Exception):
    """The message is one sentence that says what to do."""


@dataclass(frozen=True)
class KeyRing:
    """Private keys in a folder, one PEM file each, named `root-1.pem`, `targets.pem` and so on."""

    folder: Path

    def make(self, name: str) -> CryptoSigner:
        """Create a key of this name; it must not exist yet."""
        signer = CryptoSigner.generate_ed25519()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(self._file(name), flags, 0o600), "wb") as file:
            file.write(signer.private_bytes)
        return signer

    def put_away(self, name: str) -> None:
        """Rename a replaced key's file, if it is here."""
        if self._has(name):
            self._file(name).rename(self.folder / f"{name}.pem.old")

    def signer(self, name: str) -> CryptoSigner:
        """Return the key of this name.

        Raises:
            PublishingError: it is not at hand.
        """
        try:
            key: Any = load_pem_private_key(self._file(name).read_bytes(), None)
        except FileNotFoundError as error:
            raise PublishingError(
                f"The key {name}.pem is not in {self.folder}: bring it, then try again."
            ) from error
        return CryptoSigner(key)

    def root_signers(self, root: Root) -> list[CryptoSigner]:
        """Return the available root keys that this root lists.

        Raises:
            PublishingError: too few for a signature.
        """
        signers = [self.signer(name) for name in ROOT_KEYS if self._has(name)]
        known = [s for s in signers if s.public_key.keyid in root.roles[Root.type].keyids]
        if len(known) < ROOT_THRESHOLD:
            raise PublishingError(
                f"{ROOT_THRESHOLD} root keys must sign and {len(known)} of them is in "
                f"{self.folder}: bring another one."
            )
        return known

    def keyid(self, root: Root, name: str) -> str:
        """Return which of the root's keys is called `name`: the file's, or who is missing.

        Raises:
            PublishingError: several are missing.
        """
        if self._has(name):
            return self.signer(name).public_key.keyid
        role = name.partition("-")[0]
        signers = self.root_signers(root) if role == Root.type else []
        present = {signer.public_key.keyid for signer in signers}
        missing = [keyid for keyid in root.roles[role].keyids if keyid not in present]
        if len(missing) != 1:
            raise PublishingError(
                f"Which root key {name} was cannot be told: bring all the others to {self.folder}."
            )
        return missing[0]

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def _has(self, name: str) -> bool:
        return self._file(name).exists()
