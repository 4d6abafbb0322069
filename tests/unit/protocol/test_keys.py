"""Keys that prove nothing are refused wherever a key enters.

The known points and spellings: libsodium, `test/default/ed25519_convert.c` and
`ge25519_has_small_order`; "Taming the many EdDSAs" (Chalkias and others, 2020), table 2.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.keys import check_public_key
from pleb_shared.protocol.messages import CoordinatorInfo, EnrolRequest, PayloadType
from pleb_shared.protocol.project import Delegation, ProjectMetadata
from pleb_shared.protocol.signing import SigningKey, sign_payload, verify_bytes
from tests.conformance.example_metadata import example_metadata

PRIME = 2**255 - 19
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
OTHER_SPELLINGS = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
"""Of points of small order: y not below the prime, or x = 0 with a sign."""


def point_of(key: str) -> tuple[int, int]:
    """Return (x, y) of an encoded point (RFC 8032, 5.1.3)."""
    number = int.from_bytes(bytes.fromhex(key), "little")
    y, sign = number % 2**255, number >> 255
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != square:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert x * x % PRIME == square
    return (x if x % 2 == sign else -x % PRIME), y


def doubled(point: tuple[int, int]) -> tuple[int, int]:
    x, y = point
    product = CURVE * x * x * y * y % PRIME
    return (
        2 * x * y * pow(1 + product, -1, PRIME) % PRIME,
        (y * y + x * x) * pow(1 - product, -1, PRIME) % PRIME,
    )


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_the_eight_points_really_have_a_small_order(key: str) -> None:
    assert doubled(doubled(doubled(point_of(key)))) == (0, 1)


@pytest.mark.parametrize("key", SMALL_ORDER + OTHER_SPELLINGS)
def test_a_key_of_small_order_is_refused_in_every_spelling(key: str) -> None:
    with pytest.raises(ValueError, match="small order"):
        check_public_key(key)


@pytest.mark.parametrize("above", range(2, 19))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_second_spelling_of_a_point_is_refused(above: int, sign: int) -> None:
    key = (PRIME + above + sign * 2**255).to_bytes(32, "little").hex()
    with pytest.raises(ValueError, match="canonical"):
        check_public_key(key)


def test_honest_keys_pass() -> None:
    for _ in range(200):
        check_public_key(SigningKey.generate().public)


def test_nothing_is_signed_by_a_key_that_everybody_can_sign_for() -> None:
    """The library alone takes this signature: R is the neutral point, S is 0."""
    neutral = bytes.fromhex(SMALL_ORDER[0])
    forged = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"any message at all")
    envelope = sign_payload(b"{}", PayloadType.WORK, SigningKey.generate())
    with pytest.raises(Refusal) as caught:
        verify_bytes(envelope, PayloadType.WORK, neutral.hex())
    assert caught.value.code == RefusalCode.BAD_SIGNATURE
    assert "small order" in caught.value.message


@pytest.mark.parametrize("field", ["host_key", "account_key"])
def test_a_host_cannot_enrol_with_one(field: str) -> None:
    good = SigningKey.generate().public
    request = {
        "protocols": [1],
        "project": "digits",
        "host_key": good,
        "account_key": good,
        "agent": "test",
        "issued_at": 1,
        "expires_at": 2,
    }
    strict_json.decode(strict_json.encode(request), EnrolRequest)
    for weak in SMALL_ORDER + OTHER_SPELLINGS:
        with pytest.raises(Refusal, match="small order"):
            strict_json.decode(strict_json.encode(request | {field: weak}), EnrolRequest)


def test_neither_root_nor_online_key_can_be_one() -> None:
    weak = SMALL_ORDER[4]
    metadata = example_metadata(SigningKey.generate().public)
    text = strict_json.encode(metadata).decode()
    for key in (metadata.root_key, metadata.delegation.online_key):
        with pytest.raises(Refusal, match="small order"):
            strict_json.decode(text.replace(key, weak).encode(), ProjectMetadata)
    info = {"software": "x", "protocols": [1], "online_key": weak, "projects": []}
    with pytest.raises(Refusal, match="small order"):
        strict_json.decode(strict_json.encode(info), CoordinatorInfo)
    with pytest.raises(ValueError, match="small order"):
        Delegation(online_key=weak, expires_at=1)


def test_a_key_has_one_spelling_in_json_too() -> None:
    """A line break at the end would make one key look like two."""
    key = SigningKey.generate().public
    assert fingerprint_of(key + "\n") == fingerprint_of(key)
    info = {"software": "x", "protocols": [1], "online_key": key + "\n", "projects": []}
    with pytest.raises(Refusal, match="regex"):
        strict_json.decode(strict_json.encode(info), CoordinatorInfo)
