"""Names of things: content digests, key fingerprints, project names, links to attach by."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS

__all__ = [
    "AttachLink",
    "BaseUrl",
    "Digest",
    "KeyHex",
    "ProjectName",
    "check_base_url",
    "digest_of",
    "fingerprint_of",
    "parse_attach_link",
]

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256 of exact bytes, lower-case hexadecimal."""
KeyHex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""A raw 32-byte Ed25519 public key, lower-case hexadecimal."""
BaseUrl = Annotated[str, msgspec.Meta(max_length=LIMITS.mirror_characters)]
"""The address of a mirror or coordinator, which `check_base_url` has checked."""
ProjectName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?\Z")]

_PROJECT: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_DIGITS: Final = 64
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_HOST: Final = re.compile(rb"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]*:[0-9a-f:.]+(%[a-z0-9_-]+)?")
"""A name, or an address of IPv4 or IPv6."""
_SECRETS: Final = re.compile(r"(account|invite|reader)=[^&#\s]*")
_INVITE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_READER: Final = re.compile(r"[A-Za-z0-9._-]{16,200}")


def digest_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal: the name of a blob."""
    return hashlib.sha256(data).hexdigest()


def check_base_url(url: str, whose: str = "a mirror's") -> None:
    """Return if `url` can be a mirror's or a coordinator's: `/blobs/DIGEST` is added to it.

    Raises:
        ValueError: it is not the address of a folder on a web server; the message says why.
    """
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
        raise ValueError(f"{whose} address is like https://example.org/folder, not {url!r}")
    if "?" in url or "#" in url or "@" in parts.netloc or url.endswith("/"):
        raise ValueError(
            f"{whose} address has no password, no ? and no #, and does not end with /: {url!r}"
        )


def fingerprint_of(public_key: str) -> str:
    """Return the fingerprint (SHA-256 of the raw key, hexadecimal) of a hexadecimal key."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()


@dataclass(frozen=True)
class AttachLink:
    """`https://HOST/join/PROJECT#ROOT-FINGERPRINT`, or the same thing as `pleb://...`.

    `certificate` pins a self-signed certificate (SHA-256 of its DER form): `#ROOT+CERTIFICATE`.
    `account` is the secret seed of an account's key, which `#...&account=SEED` hands from one PC
    of a volunteer to the next. It is in none of the forms that are shown, but for
    `with_account`, and an `https` link never has it: what a browser opens, a page can read.
    `invite` lets somebody into a private project: `#...&invite=TOKEN`. It is for the coordinator
    itself, so any form may have it; only `with_invite` shows it. `reader` is by what a member reads
    one, which `with_account` hands on, too.
    """

    base_url: str
    project: str
    root: str
    certificate: str | None = None
    account: str | None = field(default=None, repr=False)
    invite: str | None = field(default=None, repr=False)
    reader: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        pin = f"+{self.certificate}" if self.certificate else ""
        return f"{self.base_url}/join/{quote(self.project)}#{self.root}{pin}"

    @property
    def pleb(self) -> str:
        """The same link in the form that opens the agent; plain HTTP is `pleb+http://`."""
        scheme, rest = str(self).split("://", 1)
        return f"{'pleb' if scheme == 'https' else 'pleb+http'}://{rest}"

    def at(self, url: str, certificate: str | None) -> AttachLink:
        """Return the link of the same project at another coordinator's address."""
        return replace(self, base_url=url, certificate=certificate)

    def with_account(self, seed: str, reader: str = "") -> str:
        """Return the text that makes another PC part of the account; it is the account's key."""
        return f"{self.pleb}&account={seed}" + (f"&reader={reader}" if reader else "")

    def with_invite(self, token: str) -> str:
        """Return the link that lets whoever has it into a private project."""
        return f"{self}&invite={token}"


def parse_attach_link(text: str) -> AttachLink:
    """Return the parts of an attach link.

    Raises:
        InputError: the text is not such a link; the message shows what one looks like.
    """
    try:
        parts = urlsplit(text.strip())
    except ValueError:  # half a bracket of an IPv6 address, for instance
        parts = urlsplit("")
    scheme = {"pleb": "https", "pleb+http": "http"}.get(parts.scheme, parts.scheme)
    head, _, name = parts.path.rpartition("/join/")
    pins, *secrets = parts.fragment.split("&")
    given = dict(secret.partition("=")[::2] for secret in secrets)
    account, invite = given.pop("account", ""), given.pop("invite", "")
    reader = given.pop("reader", "")
    root, _, certificate = pins.partition("+")
    name = unquote(name)
    if not _is_host(parts):
        fault = f"it has no host that can be asked, but {parts.netloc!r}" if parts.netloc else ""
        fault = fault or "it has no host"
    else:
        fault = _fault_of_path(parts.path, name) or _fault_of_pins(root, certificate, pins)
    if scheme not in {"https", "http"}:
        fault = "it begins with none of https://, http:// and pleb://"
    if not fault and account and not _DIGEST.fullmatch(account):
        fault = "the account's key at its end is not whole"
    if not fault and invite and not _INVITE.fullmatch(invite):
        fault = "the invite at its end is not whole"
    if not fault and reader and not _READER.fullmatch(reader):
        fault = "the reader at its end is not whole"
    if not fault and given:
        fault = "something else than account=, invite= or reader= follows the fingerprint"
    if fault:
        shown = _SECRETS.sub(r"\1=...", text)
        message = (
            f"{shown!r} is not an attach link: {fault}. One looks like "
            "https://HOST/join/PROJECT#FINGERPRINT (64 hexadecimal digits): "
            "copy it whole from the project's page."
        )
        raise InputError(message)
    if "account=" in parts.query or (account and not parts.scheme.startswith("pleb")):
        message = (
            "This link carries an account's key where a web page could read it, so it is not "
            "used: make a new one on your other PC, by `pleb-agent link`."
        )
        raise InputError(message)
    base = f"{scheme}://{_shown_host(parts)}{head}"
    return AttachLink(
        base, name, root, certificate or None, account or None, invite or None, reader or None
    )


def _fault_of_path(path: str, name: str) -> str:
    """Return what is wrong with a link's path; empty: nothing. It never repeats the text."""
    if "/join/" not in path:
        return "it has no /join/PROJECT after the host"
    if not name:
        return "it ends before the project's name"
    return "" if _PROJECT.fullmatch(name) else "what follows /join/ is not a project's name"


def _fault_of_pins(root: str, certificate: str, pins: str) -> str:
    """Return what is wrong with a link's fingerprints; empty: nothing."""
    if not pins:
        return "it ends before the # and the fingerprint"
    fault = _fault_of_digits("the fingerprint", root)
    if not fault and "+" in pins:
        fault = _fault_of_digits("the certificate's pin after the +", certificate)
    return fault


def _fault_of_digits(what: str, text: str) -> str:
    if _DIGEST.fullmatch(text):
        return ""
    digits = len(re.match(r"[0-9a-f]*", text).group())  # type: ignore[union-attr] # it always matches
    if digits == len(text) < _DIGITS:
        return f"{what} has {digits} of {_DIGITS} digits"
    if digits == len(text):
        return f"{what} has {digits} digits instead of {_DIGITS}"
    return f"{what} has something else than 0-9 and a-f after {digits} of its {_DIGITS} digits"


def _is_host(parts: SplitResult) -> bool:
    """Whether there is a host that can be asked; a user name before it would mislead people."""
    if "@" in parts.netloc:
        return False
    try:
        name, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # a port or a part of the name that is too long
        return False
    return bool(_HOST.fullmatch(name))


def _shown_host(parts: SplitResult) -> str:
    """Return host and port, in letters that look like no others."""
    if parts.netloc.isascii():
        return parts.netloc
    name = (parts.hostname or "").encode("idna").decode()
    return name if parts.port is None else f"{name}:{parts.port}"
