"""Where a coordinator is, and which certificate it must show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pleb_shared.errors import InputError

__all__ = ["Address", "parse_address"]

_PIN: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """The base URL; `certificate` is the SHA-256 of a self-signed certificate's DER form."""

    url: str
    certificate: str | None = None


def parse_address(text: str) -> Address:
    """Return the address that `https://HOST[:PORT][#CERTIFICATE]` spells.

    Raises:
        InputError: the text is something else.
    """
    parts = urlsplit(text.strip())
    pin = parts.fragment
    if (
        parts.scheme not in {"http", "https"}
        or not parts.netloc
        or (pin and not _PIN.fullmatch(pin))
    ):
        raise InputError(
            f"{text!r} is not a coordinator's address: give https://HOST, with "
            "#CERTIFICATE-FINGERPRINT after it if the certificate is self-signed."
        )
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", pin or None)
