"""Ed25519 public keys under which everybody can sign, and keys with a second spelling.

Under a key of small order, a signature of zeros is valid for one message in eight or for all of
them, so "signed by this key" would say nothing. A point that can be spelled in two ways would be
one key with two fingerprints. No generator of keys makes either.
"""

from __future__ import annotations

from typing import Final

__all__ = ["check_public_key"]

_PRIME: Final = 2**255 - 19
_SIGN: Final = 2**255
_SMALL_ORDER: Final = frozenset(
    int.from_bytes(bytes.fromhex(y), "little")
    for y in (
        "0100000000000000000000000000000000000000000000000000000000000000",  # order 1
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # order 2
        "0000000000000000000000000000000000000000000000000000000000000000",  # order 4
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  # order 8
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",  # order 8
    )
)
"""The y of the eight points whose order divides 8: three come with either sign of x.

Source: libsodium's `ge25519_has_small_order`; Chalkias, Garillot, Nikolaenko, "Taming the many
EdDSAs" (2020), table 2.
"""


def check_public_key(key: str) -> None:
    """Return if `key`, 64 hexadecimal digits, is an Ed25519 public key that can prove something.

    Raises:
        ValueError: it is of small order, or its y is not below the prime (RFC 8032, 5.1.3).
    """
    y = int.from_bytes(bytes.fromhex(key), "little") & ~_SIGN
    if y % _PRIME in _SMALL_ORDER:
        message = f"the key {key[:12]}... is of small order: everybody can sign for it"
        raise ValueError(message)
    if y >= _PRIME:
        message = f"the key {key[:12]}... is not in its canonical form (RFC 8032)"
        raise ValueError(message)
