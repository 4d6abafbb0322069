"""Packages of the agent: list, add, fetch, remove."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
from typing_extensions import override

from pleb_coordinator.admin.command import Command, Desk, Text, Value
from pleb_coordinator.core.packages import Package, parse_package_name
from pleb_coordinator.home.downloads import Downloads, Signature, signer_of
from pleb_shared.errors import InputError
from pleb_system.network_errors import NetworkError
from pleb_system.transport import is_loopback, network_error, open_http

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "COMMANDS",
    "AddPackage",
    "FetchPackages",
    "ListPackages",
    "PackageRemoved",
    "PackagesKept",
    "RemovePackage",
]

_PART_BYTES: Final = 2**20
_TIMEOUT: Final = httpx.Timeout(30.0)
_MOST_REDIRECTS: Final = 5
_MOST_SIDE_BYTES: Final = 2**18
"""Of a signature, or of a list of sums."""
_SUMS: Final = "SHA256SUMS"
_SUM: Final = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(\S+)")
_NOT_FOUND: Final = (403, 404, 410)
Digits = Annotated[str, msgspec.Meta(pattern="^([0-9a-fA-F]{64})?$")]
Key = Annotated[str, msgspec.Meta(max_length=200_000)]


class PackagesKept(Value, frozen=True):
    """What is offered from now on."""

    packages: list[Package]


class PackageRemoved(Value, frozen=True):
    """What is offered no more."""

    removed: str


class ListPackages(Command[list[Package]], frozen=True):
    """The packages that the join page offers."""

    words: ClassVar[str] = "packages list"

    def carry_out(self, desk: Desk) -> list[Package]:
        """Raises `InputError`: the list cannot be read."""
        return Downloads(desk.home.downloads).all()


class AddPackage(Command[PackagesKept], frozen=True):
    """Copy a file of this machine into `downloads/`."""

    words: ClassVar[str] = "packages add"
    file: Text
    """An absolute path."""
    sha256: Digits = ""
    key: Key = ""
    """The publisher's key, armoured; empty: no signature is checked."""
    signature: Text = ""
    """The signature's path; empty: the file's with `.asc`."""

    @override
    def told(self, answer: PackagesKept) -> dict[str, Any]:
        """Return what was added."""
        return _told(answer)

    def carry_out(self, desk: Desk) -> PackagesKept:
        """Raises `InputError`: it cannot be read, or is not what it should be."""
        file = Path(self.file)
        signature = None
        if self.key:
            beside = Path(self.signature) if self.signature else file.with_name(file.name + ".asc")
            signature = Signature(_file_bytes(beside), self.key.encode())
        package = Downloads(desk.home.downloads).add(
            file.name,
            _parts_of(file),
            at=desk.clock(),
            sha256=self.sha256,
            signature=signature,
        )
        return PackagesKept([package])


class FetchPackages(Command[PackagesKept], frozen=True):
    """Download a package, or all that a list of sums names, into `downloads/`."""

    words: ClassVar[str] = "packages fetch"
    url: Text
    sha256: Digits = ""
    key: Key = ""

    @override
    def told(self, answer: PackagesKept) -> dict[str, Any]:
        """Return what was fetched, and from where."""
        return {"url": self.url, **_told(answer)}

    def carry_out(self, desk: Desk) -> PackagesKept:
        """Raises `InputError` or `NetworkError`: it cannot be had, or is not what it should be."""
        url = _checked(self.url)
        downloads = Downloads(desk.home.downloads)
        name = urlsplit(url).path.rpartition("/")[2]
        if not name.startswith(_SUMS):
            signature = None
            if self.key:
                signature = Signature(self._required(url + ".asc"), self.key.encode())
            desk.say(f"Downloading {name} ...")
            package = downloads.add(
                name, _stream(url), at=desk.clock(), source=url, sha256=self.sha256,
                signature=signature,
            )  # fmt: skip
            return PackagesKept([package])
        sums = self._required(url)
        signer = self._signer_of_sums(desk, sums, url)
        listed = [
            (found[1], found[2])
            for line in sums.decode("utf-8", "replace").splitlines()
            if (found := _SUM.fullmatch(line.strip())) and parse_package_name(found[2])
        ]
        if not listed:
            raise InputError(f"{url} names no package of the agent: give another release's.")
        packages = []
        for sha256, each in listed:
            desk.say(f"Downloading {each} ...")
            address = urljoin(url, each)
            packages.append(
                downloads.add(
                    each, _stream(address), at=desk.clock(), source=address, sha256=sha256,
                    signed_by=signer,
                )
            )  # fmt: skip
        return PackagesKept(packages)

    def _signer_of_sums(self, desk: Desk, sums: bytes, url: str) -> str:
        """Return the fingerprint that signed the list; empty without a key to check by."""
        if not self.key:
            return ""
        signature = Signature(self._required(url + ".asc"), self.key.encode())
        desk.home.downloads.mkdir(exist_ok=True)
        file = desk.home.downloads / f".{_SUMS}.part"
        try:
            file.write_bytes(sums)
            return signer_of(file, signature)
        finally:
            file.unlink(missing_ok=True)

    def _required(self, url: str) -> bytes:
        found = b""
        for part in _stream(url):
            found += part
            if len(found) > _MOST_SIDE_BYTES:
                raise InputError(f"{url} is too large for what it should be: check the address.")
        return found


class RemovePackage(Command[PackageRemoved], frozen=True):
    """Stop offering a package, and delete it."""

    words: ClassVar[str] = "packages remove"
    name: Text

    def carry_out(self, desk: Desk) -> PackageRemoved:
        """Raises `InputError`: there is none of that name."""
        return PackageRemoved(Downloads(desk.home.downloads).remove(self.name).name)


def _told(answer: PackagesKept) -> dict[str, Any]:
    return {"packages": {package.name: package.sha256 for package in answer.packages}}


def _checked(url: str) -> str:
    """Return the address if nobody on the way can change what comes from it.

    Raises:
        InputError: it is no address, or has no HTTPS.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host:
        raise InputError(f"{url[:80]!r} is not an address: give https://HOST/.../NAME.")
    if parts.scheme == "http" and not is_loopback(host):
        raise InputError(
            f"{url[:80]} has no HTTPS, so anybody on the way could put in another program: use an "
            "https:// address, or download and compare it yourself, then `packages add`."
        )
    return url


def _stream(url: str) -> Iterator[bytes]:
    """Yield what an address answers, following redirects to addresses that may be used.

    Raises:
        InputError: it is not there, or leads to an address without HTTPS.
        NetworkError: no answer, or a broken one.
    """
    for _ in range(_MOST_REDIRECTS):
        with open_http(httpx.Client, httpx.URL(url), timeout=_TIMEOUT) as client:
            try:
                with client.stream("GET", url) as answer:
                    if answer.is_redirect:
                        url = _checked(urljoin(url, answer.headers.get("location", "")))
                        continue
                    if answer.status_code in _NOT_FOUND:
                        raise InputError(
                            f"{url} is not there (HTTP {answer.status_code}): check it."
                        )
                    if answer.status_code != httpx.codes.OK:
                        message = f"{url} answered HTTP {answer.status_code}: try again later."
                        raise NetworkError(message)
                    yield from answer.iter_bytes(_PART_BYTES)
                    return
            except httpx.RequestError as error:
                raise network_error(error, url, "check the address, or try again later") from error
    raise InputError(f"{url} redirects without end: give the file's own address.")


def _parts_of(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while part := opened.read(_PART_BYTES):
                yield part
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): check the path.") from error


def _file_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}): give the signature's path by --signature."
        ) from error


COMMANDS: Final = (ListPackages, AddPackage, FetchPackages, RemovePackage)
