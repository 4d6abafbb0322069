"""`downloads/`: packages of the agent that this coordinator gives to volunteers.

    downloads/packages.json          what there is, with digests: a file that it does not list is
                                     never served
    downloads/NAME                   a package, checked before it got its name

Commands write, the HTTP process reads; both only see whole files, since names appear by renaming.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.packages import (
    MOST_PACKAGE_BYTES,
    MOST_PACKAGES,
    PACKAGE_NAME,
    Package,
    parse_package_name,
)
from pleb_shared.errors import InputError
from pleb_system.durable import rename_durably, sync_directory, write_durably
from pleb_system.lock import hold_lock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from typing import BinaryIO

__all__ = ["Downloads", "Signature", "signer_of"]

_INDEX: Final = "packages.json"
_LONGEST_MAGIC: Final = 32
_CHECK_SECONDS: Final = 60
_NAMES: Final = (
    "pleb-agent_0.1.0-1_amd64.deb, pleb-agent-0.1.0-windows-setup.exe, pleb-agent-0.1.0-macos.pkg, "
    "pleb-agent-0.1.0-linux-x86_64.tar.xz"
)


class Signature(msgspec.Struct, frozen=True):
    """A detached OpenPGP signature, and the key that must have made it; both as files have them."""

    signature: bytes
    key: bytes


class Downloads:
    """The packages of one home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: tuple[tuple[int, int, int], dict[str, Package]] = (0, 0, 0), {}

    def all(self) -> list[Package]:
        """Return every package, those added last at the end; a file that was removed is none.

        Raises:
            InputError: the list cannot be read.
        """
        return [found for found in self._index().values() if self._is_there(found)]

    def find(self, name: str) -> Package | None:
        """Return the package of that name. Raises `InputError` as `all`."""
        found = self._index().get(name)
        return found if found is not None and self._is_there(found) else None

    def open(self, package: Package) -> BinaryIO:
        """Open a package's file; it stays readable while it is replaced or removed.

        Raises:
            OSError: it is gone.
        """
        return (self.folder / package.name).open("rb")

    def add(
        self,
        name: str,
        parts: Iterable[bytes],
        *,
        at: float,
        source: str = "",
        sha256: str = "",
        signature: Signature | None = None,
        signed_by: str = "",
    ) -> Package:
        """Add a package, or replace the one of the same name; return it.

        Args:
            name: its file's name, which says what it is.
            parts: its bytes.
            at: seconds since 1970.
            source: where it comes from.
            sha256: what its digest must be; empty: any.
            signature: what must have signed it; None: that is not checked.
            signed_by: the key that signed the digest, if that was checked before.

        Raises:
            InputError: it is not a package by name or content, is too large, or is another one
                than the digest or the signature says. Nothing was added.
        """
        described = parse_package_name(name)
        if described is None or not PACKAGE_NAME.fullmatch(name):
            raise InputError(
                f"{name[:80]!r} is not the name of an agent's package: keep the name that the "
                f"build gave it, such as {_NAMES}."
            )
        with self._changing():
            beside = self.folder / f".{name}.part"
            try:
                digest, size, head = _written(beside, parts, name)
                if not described.kind.begins(head):
                    raise InputError(
                        f"{name} is no {described.kind.label} package, whatever its name says: was "
                        "an error page saved? Get it again."
                    )
                if sha256 and digest != sha256.lower():
                    raise InputError(
                        f"{name} has the SHA-256 {digest}, not {sha256[:64]}: it is damaged or "
                        "another release. Get it again, and compare with what its publisher says."
                    )
                signer = signer_of(beside, signature) if signature else signed_by
                package = Package(
                    name=name,
                    kind=described.kind,
                    version=described.version,
                    processor=described.processor,
                    size=size,
                    sha256=digest,
                    added_at=at,
                    source=source,
                    signed_by=signer,
                    unsigned=described.unsigned,
                )
                packages = dict(self._index())
                packages.pop(name, None)
                packages[name] = package
                if len(packages) > MOST_PACKAGES:
                    raise InputError(
                        f"There are {MOST_PACKAGES} packages, which is the most: remove old ones "
                        "with `pleb-coordinator packages remove NAME`."
                    )
                rename_durably(beside, self.folder / name)
                self._write(packages)
            finally:
                beside.unlink(missing_ok=True)
        return package

    def remove(self, name: str) -> Package:
        """Remove a package; downloads that have begun are finished.

        Raises:
            InputError: there is none of that name.
        """
        with self._changing():
            packages = dict(self._index())
            package = packages.pop(name, None)
            if package is None:
                raise InputError(
                    f"There is no package {name[:80]!r}: see `pleb-coordinator packages list`."
                )
            self._write(packages)
            (self.folder / name).unlink(missing_ok=True)
            sync_directory(self.folder)
        return package

    def _changing(self) -> AbstractContextManager[None]:
        self.folder.mkdir(exist_ok=True)
        lock = self.folder / "packages.lock"
        return hold_lock(lock, holder="`packages` command", remedy="wait until it has ended")

    def _is_there(self, package: Package) -> bool:
        try:
            return (self.folder / package.name).stat().st_size == package.size
        except OSError:
            return False

    def _index(self) -> dict[str, Package]:
        file = self.folder / _INDEX
        try:
            stat = file.stat()
            stamp = stat.st_mtime_ns, stat.st_ino, stat.st_size
            if stamp == self._seen[0]:
                return self._seen[1]
            listed = msgspec.json.decode(file.read_bytes(), type=list[Package])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(
                f"{file} cannot be read ({error}): check its permissions, or remove it and add the "
                "packages again."
            ) from error
        packages = {package.name: package for package in listed}
        self._seen = stamp, packages
        return packages

    def _write(self, packages: dict[str, Package]) -> None:
        write_durably(self.folder / _INDEX, msgspec.json.encode(list(packages.values())))


def _written(file: Path, parts: Iterable[bytes], name: str) -> tuple[str, int, bytes]:
    """Write a file; return its SHA-256, its size and its first bytes."""
    digest, size, head = hashlib.sha256(), 0, b""
    with file.open("wb") as opened:
        for part in parts:
            size += len(part)
            if size > MOST_PACKAGE_BYTES:
                most = MOST_PACKAGE_BYTES // 2**20
                raise InputError(f"{name} is larger than {most} MB: no agent's package is.")
            head = head if len(head) >= _LONGEST_MAGIC else (head + part)[:_LONGEST_MAGIC]
            digest.update(part)
            opened.write(part)
        opened.flush()
        os.fsync(opened.fileno())
    return digest.hexdigest(), size, head


def signer_of(file: Path, signature: Signature) -> str:
    """Return the fingerprint of the key that signed a file.

    Raises:
        InputError: the key did not, or GnuPG is missing.
    """
    if shutil.which("gpg") is None:
        raise InputError(
            "Checking a signature needs GnuPG: install the package gnupg, or leave --key out and "
            "compare the SHA-256 with what the publisher says."
        )
    with tempfile.TemporaryDirectory(prefix="pleb-gpg-") as folder:
        home = Path(folder)
        (home / "key").write_bytes(signature.key)
        (home / "signature").write_bytes(signature.signature)

        def run(*words: object) -> str:
            done = subprocess.run(
                ["gpg", "--homedir", folder, "--batch", "--no-autostart", "--status-fd", "1",
                 *map(str, words)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_CHECK_SECONDS,
                check=False,
            )  # fmt: skip
            return done.stdout.decode("utf-8", "replace")

        run("--import", home / "key")
        status = run("--verify", home / "signature", file)
    for line in status.splitlines():
        words = line.split()
        if words[:2] == ["[GNUPG:]", "VALIDSIG"]:
            return words[-1].lower()  # of the primary key, which people publish
    raise InputError(
        "The signature was not made by this key for this file: get the file, its signature and "
        "the publisher's key again."
    )
