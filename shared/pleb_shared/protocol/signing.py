"""DSSE envelopes with Ed25519 keys: the exact payload bytes are signed, never a rewriting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.keys import check_public_key
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Struct

if TYPE_CHECKING:
    from pleb_shared.protocol.messages import PayloadType

__all__ = [
    "SigningKey",
    "Unverified",
    "open_envelope",
    "peek_payload",
    "read_envelope",
    "sign_payload",
    "verify_bytes",
]

T = TypeVar("T", bound=Struct)


class _WireSignature(Struct, frozen=True):
    keyid: Annotated[str, msgspec.Meta(max_length=128)]
    sig: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class _WireEnvelope(Struct, frozen=True):
    payload: bytes
    payload_type: str = msgspec.field(name="payloadType")
    signatures: Annotated[list[_WireSignature], msgspec.Meta(min_length=1, max_length=4)]


class SigningKey:
    """An Ed25519 private key that signs envelopes; `public` is its raw key in hexadecimal."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = raw.hex()
        self.fingerprint = fingerprint_of(self.public)
        self._private = private
        self.signer = CryptoSigner(private, _verifier(self.public))

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, seed: bytes) -> SigningKey:
        """Read the 32 raw bytes that `to_bytes` returned."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def to_bytes(self) -> bytes:
        """Return the 32 raw secret bytes."""
        return self._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def sign_payload(payload: bytes, kind: PayloadType, *keys: SigningKey) -> bytes:
    """Return the JSON envelope of exactly these payload bytes, signed by each key."""
    envelope = Envelope(payload, kind.value, {})
    for key in keys:
        envelope.sign(key.signer)
    return strict_json.encode(
        _WireEnvelope(
            payload=payload,
            payload_type=kind.value,
            signatures=[
                _WireSignature(keyid=signature.keyid, sig=bytes.fromhex(signature.signature))
                for signature in envelope.signatures.values()
            ],
        )
    )


class Unverified:
    """An envelope whose signatures are NOT checked yet; made by `read_envelope`.

    Its payload says whose key must have signed: what is read there may be obeyed only after
    `verify`.
    """

    def __init__(self, wire: _WireEnvelope) -> None:
        self.payload = wire.payload
        self._wire = wire

    def verify(self, *keys: str) -> None:
        """Return if every one of `keys` (hexadecimal) has signed the envelope.

        Raises:
            Refusal: `bad_signature`.
        """
        wire = self._wire
        signatures = {s.keyid: Signature(s.keyid, s.sig.hex()) for s in wire.signatures}
        envelope = Envelope(wire.payload, wire.payload_type, signatures)
        try:
            envelope.verify([_verifier(key) for key in keys], len(set(keys)))
        except VerificationError as error:
            message = "The signature does not belong to this message and this key."
            raise Refusal(RefusalCode.BAD_SIGNATURE, message) from error


def read_envelope(
    data: bytes, kind: PayloadType, *, most_bytes: int = LIMITS.message_bytes
) -> Unverified:
    """Return an envelope whose signatures are NOT checked yet.

    Raises:
        Refusal: `malformed` or `too_large`.
    """
    wire = strict_json.decode(data, _WireEnvelope, most_bytes=most_bytes)
    if wire.payload_type != kind.value:
        message = f"Expected a statement of type {kind.value}, got {wire.payload_type!r}."
        raise Refusal(RefusalCode.MALFORMED, message)
    return Unverified(wire)


def peek_payload(
    data: bytes, kind: PayloadType, *, most_bytes: int = LIMITS.message_bytes
) -> bytes:
    """Return the payload of `read_envelope`. Raises as it."""
    return read_envelope(data, kind, most_bytes=most_bytes).payload


def verify_bytes(
    data: bytes, kind: PayloadType, *keys: str, most_bytes: int = LIMITS.message_bytes
) -> bytes:
    """Return the payload of an envelope that every one of `keys` (hexadecimal) has signed.

    Raises:
        Refusal: `malformed`, `too_large` or `bad_signature`.
    """
    envelope = read_envelope(data, kind, most_bytes=most_bytes)
    envelope.verify(*keys)
    return envelope.payload


def open_envelope(
    data: bytes,
    kind: PayloadType,
    struct: type[T],
    *keys: str,
    most_bytes: int = LIMITS.message_bytes,
) -> T:
    """Return the struct in an envelope that every one of `keys` has signed.

    Raises:
        Refusal: as `verify_bytes`, or `malformed` where the payload is not such a struct.
    """
    payload = verify_bytes(data, kind, *keys, most_bytes=most_bytes)
    return strict_json.decode(payload, struct, most_bytes=most_bytes)


def _verifier(public: str) -> SSlibKey:
    """Return what verifies a key's signatures; every key that is ever asked for passes here."""
    try:
        check_public_key(public)
    except ValueError as error:
        raise Refusal(RefusalCode.BAD_SIGNATURE, f"No signature counts here: {error}.") from error
    return SSlibKey(fingerprint_of(public), "ed25519", "ed25519", {"public": public})
