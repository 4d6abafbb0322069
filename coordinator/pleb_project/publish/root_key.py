"""The project's root key: made once, readable only by its owner, never overwritten."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import InputError
from pleb_shared.protocol.signing import SigningKey
from pleb_system.durable import create_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_root_key", "make_root_key"]

_HEADER: Final = "pleb-cluster root key (Ed25519, keep secret): "


def load_root_key(file: Path) -> SigningKey:
    """Return the key in `file`.

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
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"Others can read {file}: run `chmod 600 {file}`.")
    try:
        return SigningKey.from_bytes(bytes.fromhex(text.removeprefix(_HEADER).strip()))
    except ValueError as error:
        raise InputError(f"{file} is damaged: restore it from your backup.") from error


def make_root_key(file: Path) -> SigningKey:
    """Make a key in `file`, which must not exist, with mode 600, and return it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = SigningKey.generate()
    create_private(file, f"{_HEADER}{key.to_bytes().hex()}\n".encode("ascii"))
    return key
