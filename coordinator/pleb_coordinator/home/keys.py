"""Secret files, readable only by their owner, and the online keys among them.

`keys/online.key` is the newest online key, to which projects are to delegate. Each earlier one
stays in a file that its fingerprint names, until no project delegates to it any more.
"""

from __future__ import annotations

import secrets
import stat
from typing import TYPE_CHECKING

from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.signing import SigningKey
from pleb_system.durable import create_private, write_durably
from pleb_system.lock import hold_lock

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_coordinator.home.layout import Home

__all__ = [
    "SECRET_BYTES",
    "OnlineKeys",
    "earlier_key_file",
    "is_private",
    "make_secret_file",
    "read_online_key",
    "read_secret",
    "rotate_online_key",
]

SECRET_BYTES = 32


class OnlineKeys:
    """The keys that sign for this coordinator, for as long as a project delegates to them.

    Files are read again when a key is needed that is not known, so a running `serve` takes part in
    a rotation without a restart.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known = {key.public: key for key in self.all()}

    def all(self) -> list[SigningKey]:
        """Return the keys in the home, the newest one first.

        Raises:
            InputError: a file has another length, or the newest key is missing.
        """
        newest = self._home.online_key_file
        earlier = sorted(newest.parent.glob("online-*.key"))
        keys = [SigningKey.from_bytes(read_secret(path)) for path in [newest, *earlier]]
        return list({key.public: key for key in keys}.values())

    def newest(self) -> SigningKey:
        """Return the key that metadata is to delegate to from now on.

        Raises:
            InputError: its file is missing or has another length.
        """
        return read_online_key(self._home.online_key_file)

    def of(self, public: str) -> SigningKey:
        """Return the key that a project delegates to.

        Raises:
            Refusal: `internal`: this home does not have it.
        """
        if public not in self._known:
            self._known = {key.public: key for key in self.all()}
        if public not in self._known:
            message = (
                f"This coordinator does not have the online key {fingerprint_of(public)[:16]}, to "
                "which the project delegates: its operator must restore the folder keys/ from a "
                "backup, or its researcher must run `pleb-project renew`."
            )
            raise Refusal(RefusalCode.INTERNAL, message)
        return self._known[public]


def rotate_online_key(home: Home) -> SigningKey:
    """Make a new online key, keep the one before it, and return the new one.

    A crash in between leaves the old key as the newest one, and the next call does all of it.

    Raises:
        InputError: the newest key cannot be read.
        HomeInUseError: another process rotates the key.
    """
    newest = home.online_key_file
    lock = newest.with_name("rotate.lock")
    with hold_lock(lock, holder="`pleb-coordinator key rotate`", remedy="wait for its end"):
        before, after = read_online_key(newest), SigningKey.generate()
        # The copy first: projects delegate to this key until their researchers renew.
        make_secret_file(earlier_key_file(home, before.fingerprint), before.to_bytes())
        write_durably(newest, after.to_bytes(), private=True)
    return after


def earlier_key_file(home: Home, fingerprint: str) -> Path:
    """Return where an online key is kept once there is a newer one."""
    return home.online_key_file.with_name(f"online-{fingerprint[:16]}.key")


def make_secret_file(path: Path, content: bytes | None = None) -> bool:
    """Write 32 random bytes (or `content`), mode 600; return False if the file exists already.

    An empty file counts as none: a crash of an earlier release could leave one.
    """
    if path.exists() and not path.stat().st_size:
        path.unlink()
    try:
        create_private(path, secrets.token_bytes(SECRET_BYTES) if content is None else content)
    except FileExistsError:
        return False
    return True


def read_secret(path: Path) -> bytes:
    """Return the 32 bytes of a secret file.

    Raises:
        InputError: it is missing, cannot be read, or has another length.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path} is missing. Restore it from a backup, or run `pleb-coordinator init`."
        raise InputError(message) from error
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): check its owner and permissions."
        raise InputError(message) from error
    if len(content) != SECRET_BYTES:
        message = f"{path} has {len(content)} bytes instead of {SECRET_BYTES}. Restore a backup."
        raise InputError(message)
    return content


def read_online_key(path: Path) -> SigningKey:
    """Return the online key.

    Raises:
        InputError: as `read_secret`.
    """
    return SigningKey.from_bytes(read_secret(path))


def is_private(path: Path) -> bool:
    """Whether only the owner may read the file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077
