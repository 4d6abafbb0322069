"""A hostile client, written from the document: every lie gets its typed refusal."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.e2e.stranger import Refused, sealed
from tests.e2e.test_life_of_a_unit import only_unit
from tests.e2e.world import PROJECTS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.stranger import Stranger

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    world = World(tmp_path_factory.mktemp("hostile"))
    try:
        world.serve("--with-agent")  # an anchor, or a unit that came to nothing would be the last
        yield world.publish(PROJECTS / "tiny")
    finally:
        world.close()


@pytest.fixture
def host(link: str, strangers: Callable[[str], Stranger]) -> Stranger:
    """An enrolled host that has done its calibration."""
    stranger = strangers(link)
    stranger.enrol()
    manifest = only_unit(stranger.post(stranger.request(wait_seconds=10)))
    delta, losses = stranger.train(manifest)
    report = stranger.report(manifest, delta, losses)
    packed = zlib.compress(delta)
    reply = stranger.post(stranger.request(reports=[report], max_units=0), packed)
    assert reply["receipts"][0]["outcome"] in {"stored", "unneeded"}
    return stranger


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        call(*arguments, **options)
    code: str = caught.value.code
    return code


def a_unit(host: Stranger) -> dict[str, Any]:
    end = time.monotonic() + 20
    while True:
        reply = host.post(host.request(wait_seconds=5))
        if reply["manifests"] or time.monotonic() > end:
            return only_unit(reply)


def receipt(host: Stranger, report: dict[str, Any], attached: bytes = b"") -> dict[str, Any]:
    reply = host.post(host.request(reports=[report], max_units=0), attached)
    answer: dict[str, Any] = reply["receipts"][0]
    return answer


def test_requests_out_of_order_or_time(host: Stranger) -> None:
    now = int(time.time())
    assert refusal(host.post, host.request(sequence=1)) == "stale_sequence"
    late = {"issued_at": now - 3600, "expires_at": now - 3500}
    assert refusal(host.post, host.request(**late)) == "clock_skew"
    assert refusal(host.post, host.request(issued_at=now - 200, expires_at=now - 100)) == "expired"
    long = {"issued_at": now, "expires_at": now + 100_000}
    assert refusal(host.post, host.request(**long)) in {"malformed", "expired", "clock_skew"}


def test_the_same_request_gets_the_stored_answer(host: Stranger) -> None:
    payload = host.request(max_units=0)
    body = sealed("work", json.dumps(payload).encode(), host.host_key) + b"\n"
    first = host.post_raw(body, payload["sequence"])
    assert host.post_raw(body, payload["sequence"]) == first
    assert refusal(host.post, payload | {"max_units": 1}) == "sequence_reused"


def test_strangers_keys_projects_and_protocols(host: Stranger) -> None:
    other = Ed25519PrivateKey.generate()
    assert refusal(host.post, host.request(), key=other) == "bad_signature"
    assert refusal(host.post, host.request(host="0" * 64)) in {"unknown_host", "bad_signature"}
    assert refusal(host.post, host.request(project="other")) == "wrong_audience"
    assert refusal(host.post, host.request(protocols=[99])) == "unsupported_protocol"
    assert refusal(host.post, host.request(surplus=1)) == "malformed"
    assert refusal(host.post_raw, b"{", 1) == "malformed"
    assert refusal(host.post_raw, b"x" * (3 * 1024 * 1024), 1) == "too_large"
    assert refusal(host.get, "/projects/none/metadata") == "unknown_project"
    assert refusal(host.get, f"/blobs/{'0' * 64}") == "unknown_blob"


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(host: Stranger, poison: float) -> None:
    manifest = a_unit(host)
    delta, losses = host.train(manifest)
    scales = np.frombuffer(delta[:2], "<f2").copy()
    scales[0] = poison
    bad = scales.tobytes() + delta[2:]
    answer = receipt(host, host.report(manifest, bad, losses), zlib.compress(bad))
    assert (answer["outcome"], answer["code"]) == ("refused", "not_finite")


def test_wrong_sizes_digests_versions_and_kinds(host: Stranger) -> None:
    def refused(spoil: Any) -> str:
        manifest = a_unit(host)
        delta, losses = host.train(manifest)
        report, attached = spoil(host.report(manifest, delta, losses), delta)
        answer = receipt(host, report, attached)
        assert answer["outcome"] == "refused", answer
        code: str = answer["code"]
        return code

    def resized(report: dict[str, Any], delta: bytes) -> tuple[dict[str, Any], bytes]:
        short = zlib.compress(delta[:-1])
        stated = {"size": len(short), "digest": hashlib.sha256(delta[:-1]).hexdigest()}
        return report | {"result": report["result"] | stated}, short

    def other_bytes(report: dict[str, Any], delta: bytes) -> tuple[dict[str, Any], bytes]:
        # No other host has this digest: bytes of one that is known are not looked at.
        return report | {"result": report["result"] | {"digest": "5" * 64}}, zlib.compress(delta)

    def other_version(report: dict[str, Any], delta: bytes) -> tuple[dict[str, Any], bytes]:
        return report | {"version": report["version"] + 1}, zlib.compress(delta)

    def other_kind(report: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        result = {"kind": "evaluation", "metrics": {"loss": 0.0}, "examples": 10}
        return report | {"result": result}, b""

    assert refused(resized) == "wrong_size"
    assert refused(other_bytes) == "wrong_digest"
    assert refused(other_version) == "wrong_base_version"
    assert refused(other_kind) == "wrong_result"


@pytest.mark.parametrize("kind", ["bomb", "truncated", "trailing", "raw", "empty"])
def test_what_does_not_unpack_to_the_delta(host: Stranger, kind: str) -> None:
    """Nothing larger than a delta is unpacked, and nothing is taken that is no whole stream."""
    manifest = a_unit(host)
    delta, losses = host.train(manifest)
    packed = zlib.compress(delta)
    sent = {
        "bomb": zlib.compress(bytes(1000 * len(delta)), 9),
        "truncated": packed[:-1],
        "trailing": packed + b"x",
        "raw": delta,
        "empty": zlib.compress(b""),
    }[kind]
    assert len(sent) <= len(delta) + len(delta) // 1000 + 64
    report = host.report(manifest, delta, losses)
    # No other host has this digest: bytes of one that is known are not looked at.
    report["result"] |= {"digest": "5" * 64, "size": len(sent), "attached": True}
    answer = receipt(host, report, sent)
    assert answer["outcome"] == "refused", answer
    assert answer["code"] == ("wrong_size" if kind == "empty" else "wrong_digest")


def test_reports_twice_stolen_or_made_up(
    host: Stranger, link: str, strangers: Callable[[str], Stranger]
) -> None:
    manifest = a_unit(host)
    delta, losses = host.train(manifest)
    report, delta = host.report(manifest, delta, losses), zlib.compress(delta)
    thief = strangers(link)
    thief.enrol()
    assert receipt(thief, report, delta)["code"] == "unknown_assignment"
    assert receipt(host, report | {"nonce": "0" * 32}, delta)["code"] == "unknown_assignment"
    assert receipt(host, report | {"assignment": 10**9}, delta)["code"] == "unknown_assignment"
    assert receipt(host, report, delta)["outcome"] in {"stored", "unneeded"}
    assert receipt(host, report, delta)["code"] == "already_reported"


def test_a_large_delta_is_uploaded_in_parts(host: Stranger) -> None:
    manifest = a_unit(host)
    delta, losses = host.train(manifest)
    delta = delta[:-1] + bytes([delta[-1] ^ 1])  # nobody else's bytes
    report = host.report(manifest, delta, losses)
    report["result"]["attached"], delta = False, zlib.compress(delta)
    answer = receipt(host, report)
    assert answer["outcome"] == "upload"
    token = answer["upload"]
    headers = {"Upload-Offset": "0"}
    half = len(delta) // 2
    part = host.http.patch(f"/uploads/{token}", content=delta[:half], headers=headers)
    assert (part.status_code, part.headers["Upload-Complete"]) == (204, "?0")
    again = host.http.patch(f"/uploads/{token}", content=delta[:half], headers=headers)
    assert again.json()["code"] == "wrong_offset"
    host.upload(token, delta)
    assert host.http.head(f"/uploads/{token}").headers["Upload-Complete"] == "?1"
    lost = host.http.patch(f"/uploads/{'0' * 43}", content=delta, headers=headers)
    assert lost.json()["code"] == "unknown_upload"
