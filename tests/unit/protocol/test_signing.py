"""Envelopes: only exact bytes, of the expected kind, signed by every expected key, are opened."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import fingerprint_of
from pleb_shared.protocol.messages import EnrolReply, PayloadType, Role
from pleb_shared.protocol.signing import SigningKey, open_envelope, peek_payload, sign_payload

KEY = SigningKey.from_bytes(bytes(range(32)))
OTHER = SigningKey.from_bytes(bytes(range(1, 33)))
REPLY = EnrolReply(
    protocol=1,
    project="digits",
    host="0" * 64,
    account="1" * 64,
    role=Role.HOST,
    sequence=0,
    issued_at=1_000,
)
PAYLOAD = strict_json.encode(REPLY)
ENVELOPE = sign_payload(PAYLOAD, PayloadType.ENROL_REPLY, KEY)


def opened(data: bytes, *keys: str) -> EnrolReply:
    return open_envelope(data, PayloadType.ENROL_REPLY, EnrolReply, *(keys or (KEY.public,)))


def code_of(data: bytes, *keys: str) -> RefusalCode:
    with pytest.raises(Refusal) as caught:
        opened(data, *keys)
    return caught.value.code


def test_a_signed_statement_is_opened() -> None:
    assert opened(ENVELOPE) == REPLY
    assert peek_payload(ENVELOPE, PayloadType.ENROL_REPLY) == PAYLOAD


def test_the_signature_is_plain_ed25519_over_the_dsse_encoding() -> None:
    """A stranger needs no library of ours: this is all there is to it."""
    wire = json.loads(ENVELOPE)
    payload = base64.b64decode(wire["payload"])
    kind = wire["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    public.verify(base64.b64decode(wire["signatures"][0]["sig"]), signed)
    assert wire["signatures"][0]["keyid"] == fingerprint_of(KEY.public) == KEY.fingerprint


def test_the_key_survives_storage() -> None:
    assert SigningKey.from_bytes(KEY.to_bytes()).public == KEY.public


def test_every_expected_key_must_have_signed() -> None:
    both = sign_payload(PAYLOAD, PayloadType.ENROL_REPLY, KEY, OTHER)
    assert opened(both, KEY.public, OTHER.public) == REPLY
    assert code_of(ENVELOPE, KEY.public, OTHER.public) is RefusalCode.BAD_SIGNATURE
    assert code_of(ENVELOPE, OTHER.public) is RefusalCode.BAD_SIGNATURE


def test_a_changed_payload_is_refused() -> None:
    wire = json.loads(ENVELOPE)
    wire["payload"] = base64.b64encode(PAYLOAD.replace(b'"host"', b'"HOST"', 1)).decode()
    assert code_of(json.dumps(wire).encode()) is RefusalCode.BAD_SIGNATURE


def test_a_statement_of_one_kind_does_not_pass_for_another() -> None:
    work = sign_payload(PAYLOAD, PayloadType.WORK_REPLY, KEY)
    assert code_of(work) is RefusalCode.MALFORMED
    wire = json.loads(work)
    wire["payloadType"] = PayloadType.ENROL_REPLY.value
    assert code_of(json.dumps(wire).encode()) is RefusalCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "not base64!"},
        {"signatures": []},
        {"signatures": [{"keyid": KEY.fingerprint, "sig": "AAAA"}]},
        {"signatures": [{"keyid": KEY.fingerprint, "sig": "A" * 86 + "=="}] * 5},
        {"surplus": 1},
    ],
)
def test_a_broken_envelope_is_malformed(change: dict[str, object]) -> None:
    assert code_of(json.dumps(json.loads(ENVELOPE) | change).encode()) is RefusalCode.MALFORMED


def test_a_signed_payload_of_the_wrong_form_is_malformed() -> None:
    assert code_of(sign_payload(b"{}", PayloadType.ENROL_REPLY, KEY)) is RefusalCode.MALFORMED
