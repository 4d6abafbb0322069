"""The file of a root key: sealed under a passphrase, or plain where the researcher chose that.

A sealed file is one line of JSON. scrypt (RFC 7914) makes an AES-256-GCM key from the passphrase;
the key's public half is readable without it and is authenticated together with the rest.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import KeyHex, fingerprint_of
from pleb_shared.protocol.signing import SigningKey
from pleb_system.durable import create_private, write_durably

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StoredKey", "WrongPassphraseError", "copy_key", "create_key", "read_key", "replace_key"]

_PLAIN: Final = "pleb-cluster root key (Ed25519, keep secret): "
_PLAIN_BY_CHOICE: Final = "pleb-cluster root key (Ed25519, no passphrase by choice, keep secret): "
_SCRYPT_N: Final = 2**17
"""With r = 8: 128 MiB and a good part of a second for each guess."""
_FORMAT: Final = "pleb-cluster root key"


class WrongPassphraseError(InputError):
    """The passphrase does not open the key file."""


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a sealed file. The bounds keep a forged one from taking all memory."""

    format: Literal["pleb-cluster root key"] = _FORMAT
    version: Literal[1] = 1
    public: KeyHex
    scrypt_n: Annotated[int, msgspec.Meta(ge=2**10, le=2**20)]
    scrypt_r: Annotated[int, msgspec.Meta(ge=1, le=8)] = 8
    scrypt_p: Annotated[int, msgspec.Meta(ge=1, le=4)] = 1
    salt: Annotated[bytes, msgspec.Meta(min_length=16, max_length=64)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]
    sealed: Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
    """The 32 secret bytes, and a tag of 16."""


@dataclass(frozen=True)
class StoredKey:
    """A key file that was read. `plain_by_choice`: its owner asked for no passphrase."""

    file: Path
    public: str
    plain_by_choice: bool
    _content: SigningKey | _Sealed

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its public half, as links have it."""
        return fingerprint_of(self.public)

    @property
    def needs_passphrase(self) -> bool:
        """Whether the file is sealed."""
        return isinstance(self._content, _Sealed)

    def unlock(self, passphrase: str) -> SigningKey:
        """Return the key; of a plain file whatever the passphrase is.

        Raises:
            WrongPassphraseError: the passphrase is another one, or the file was changed.
        """
        sealed = self._content
        if isinstance(sealed, SigningKey):
            return sealed
        try:
            seed = AESGCM(_derived(passphrase, sealed)).decrypt(
                sealed.nonce, sealed.sealed, _authenticated(sealed.public)
            )
        except InvalidTag as error:
            raise WrongPassphraseError(
                f"This is not the passphrase of {self.file}: try again, or restore the file from "
                "your backup if you are sure of the passphrase."
            ) from error
        return SigningKey.from_bytes(seed)


def read_key(file: Path) -> StoredKey:
    """Return the key in `file`, still sealed if it is.

    Raises:
        InputError: it is missing, damaged, or others can read it.
    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise InputError(
            f"The root key {file} is missing: give the --home that the project was published "
            "from, or copy the key there."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is damaged: restore it from your backup.") from error
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"Others can read {file}: run `chmod 600 {file}`.")
    try:
        if text.startswith("{"):
            sealed = msgspec.json.decode(text, type=_Sealed)
            return StoredKey(file, sealed.public, plain_by_choice=False, _content=sealed)
        by_choice = text.startswith(_PLAIN_BY_CHOICE)
        seed = text.removeprefix(_PLAIN_BY_CHOICE if by_choice else _PLAIN)
        key = SigningKey.from_bytes(bytes.fromhex(seed.strip()))
    except ValueError as error:
        raise InputError(f"{file} is damaged: restore it from your backup.") from error
    return StoredKey(file, key.public, by_choice, key)


def create_key(file: Path, key: SigningKey, passphrase: str | None) -> None:
    """Write a new key file with mode 600; None: plain, by choice.

    Raises:
        FileExistsError: there is one already; a key is never written over.
    """
    _create(file, _text(key, passphrase))


def copy_key(source: Path, file: Path) -> None:
    """Write another file of the same key under the same passphrase.

    Raises:
        FileExistsError: there is one already; a key is never written over.
    """
    _create(file, source.read_bytes())


def replace_key(file: Path, key: SigningKey, passphrase: str | None) -> None:
    """Write the same key again under another passphrase; a crash leaves the old or the new file."""
    write_durably(file, _text(key, passphrase), private=True)


def _create(file: Path, text: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if file.exists() and not file.stat().st_size:
        file.unlink()  # a crash of an earlier release could leave an empty one
    create_private(file, text)


def _text(key: SigningKey, passphrase: str | None) -> bytes:
    if passphrase is None:
        return f"{_PLAIN_BY_CHOICE}{key.to_bytes().hex()}\n".encode("ascii")
    head = _Sealed(
        public=key.public,
        scrypt_n=_SCRYPT_N,
        salt=secrets.token_bytes(16),
        nonce=secrets.token_bytes(12),
        sealed=b"",
    )
    sealed = AESGCM(_derived(passphrase, head)).encrypt(
        head.nonce, key.to_bytes(), _authenticated(key.public)
    )
    return msgspec.json.encode(msgspec.structs.replace(head, sealed=sealed)) + b"\n"


def _derived(passphrase: str, head: _Sealed) -> bytes:
    """Return the AES key. Systems type accents in different code points; NFC makes them one."""
    kdf = Scrypt(salt=head.salt, length=32, n=head.scrypt_n, r=head.scrypt_r, p=head.scrypt_p)
    return kdf.derive(unicodedata.normalize("NFC", passphrase).encode())


def _authenticated(public: str) -> bytes:
    return f"{_FORMAT} 1 {public}".encode("ascii")
