"""Names of things: content digests, key fingerprints, project names, links to attach by."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Final, NewType
from urllib.parse import quote, unquote, urlsplit

import msgspec

from pleb_shared.errors import InputError

__all__ = [
    "AttachLink",
    "Digest",
    "HostId",
    "KeyHex",
    "ProjectName",
    "digest_of",
    "fingerprint_of",
    "parse_attach_link",
]

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""SHA-256 of exact bytes, lower-case hexadecimal."""
KeyHex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A raw 32-byte Ed25519 public key, lower-case hexadecimal."""
ProjectName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
HostId = NewType("HostId", str)
"""The fingerprint of a host's key."""

_PROJECT: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal: the name of a blob."""
    return hashlib.sha256(data).hexdigest()


def fingerprint_of(public_key: str) -> str:
    """Return the fingerprint (SHA-256 of the raw key, hexadecimal) of a hexadecimal key."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()


@dataclass(frozen=True)
class AttachLink:
    """`https://HOST/join/PROJECT#ROOT-FINGERPRINT`, or the same thing as `pleb://...`.

    `certificate` pins a self-signed certificate (SHA-256 of its DER form): `#ROOT+CERTIFICATE`.
    """

    base_url: str
    project: str
    root: str
    certificate: str | None = None

    def __str__(self) -> str:
        pin = f"+{self.certificate}" if self.certificate else ""
        return f"{self.base_url}/join/{quote(self.project)}#{self.root}{pin}"

    @property
    def pleb(self) -> str:
        """The same link in the form that opens the agent; plain HTTP is `pleb+http://`."""
        scheme, rest = str(self).split("://", 1)
        return f"{'pleb' if scheme == 'https' else 'pleb+http'}://{rest}"


def parse_attach_link(text: str) -> AttachLink:
    """Return the parts of an attach link.

    Raises:
        InputError: the text is not such a link; the message shows what one looks like.
    """
    parts = urlsplit(text.strip())
    scheme = {"pleb": "https", "pleb+http": "http"}.get(parts.scheme, parts.scheme)
    head, _, name = parts.path.rpartition("/join/")
    root, _, certificate = parts.fragment.partition("+")
    name = unquote(name)
    if (
        scheme not in {"https", "http"}
        or not parts.netloc
        or not _PROJECT.fullmatch(name)
        or not _DIGEST.fullmatch(root)
        or (certificate and not _DIGEST.fullmatch(certificate))
    ):
        message = (
            f"{text!r} is not an attach link. One looks like "
            "https://HOST/join/PROJECT#FINGERPRINT (64 hexadecimal digits): "
            "copy it whole from the project's page."
        )
        raise InputError(message)
    base = f"{scheme}://{parts.netloc}{head}"
    return AttachLink(base, name, root, certificate or None)
