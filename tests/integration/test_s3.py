"""A bucket that is away, slow or wrong: asked again, then refused; nothing is lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from pleb_coordinator.admin.public_bucket import fault_of_public
from pleb_coordinator.blobs.s3 import S3Blobs
from pleb_coordinator.blobs.signing import UploadSigner
from pleb_coordinator.blobs.store import DamagedPartError
from pleb_coordinator.core.records import FileKind, StoredDelta
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.direct import DirectPart, part_place, sealed_part
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from tests.postgres import free_port
from tests.s3_server import KEYS, Fault, FaultyProxy, shared_nanio, shared_s3

DATA = bytes(range(256)) * 500


@pytest.fixture
def proxy():
    with FaultyProxy(shared_s3().endpoint) as proxy:
        yield proxy


@pytest.fixture
def blobs(proxy):
    return bucket(proxy.endpoint)


def bucket(endpoint, *, patience=20.0, name=None):
    return S3Blobs(
        f"s3://{name or shared_s3().new_bucket()}/pleb",
        endpoint=endpoint,
        region="us-east-1",
        patience=timedelta(seconds=patience),
        **KEYS,
    )


def refusal(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


FAULTS = {
    "an error of the server": {"status": 500},
    "too many requests": {"status": 503},
    "an error after it was done": {"status": 500, "after": True},
    "slow": {"delay_seconds": 0.3},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_fails_for_a_moment_is_done_all_the_same(blobs, proxy, fault):
    def trouble():
        assert not any(left.times for left in proxy.faults)
        proxy.faults = [Fault(1, **fault)]

    trouble()
    digest = blobs.put(DATA)
    trouble()
    assert blobs.get(digest) == DATA
    trouble()
    assert blobs.read(digest, 100, 300) == DATA[100:300]
    trouble()
    blobs.put_delta(3, DATA)
    trouble()
    assert blobs.delta_view(StoredDelta(3, len(DATA), None), digest) == DATA
    trouble()
    assert blobs.append_upload("token", 0, DATA[:1000], 1500) == 1000
    trouble()
    assert blobs.append_upload("token", 1000, DATA[1000:1500], 1500) == 1500
    trouble()
    assert b"".join(blobs.upload_parts("token", 1500)) == DATA[:1500]
    trouble()
    blobs.delete(digest)
    assert not blobs.exists(digest)


def test_a_wrong_body_is_read_again_and_damage_is_never_given_out(blobs, proxy):
    digest = blobs.put(DATA)
    blobs.put_delta(3, DATA)
    stored = StoredDelta(3, len(DATA), None)
    for read in (
        lambda: blobs.get(digest),
        lambda: blobs.delta(stored),
        lambda: blobs.delta_view(stored, digest),
    ):
        proxy.faults = [Fault(1, ("GET",), spoil=True)]
        assert read() == DATA
        assert not proxy.faults[0].times
        proxy.faults = [Fault(10, ("GET",), spoil=True)]
        assert refusal(read).code == RefusalCode.UNKNOWN_BLOB


def test_an_upload_whose_part_cannot_be_read_is_not_refused_for_good(blobs, proxy):
    """The host that sent it is honest, and may ask again."""
    digest = digest_of(DATA)
    blobs.append_upload("token", 0, DATA, len(DATA))
    proxy.faults = [Fault(10, ("GET",), spoil=True, only_bodies=True)]
    found = refusal(blobs.upload_to_blob, "token", len(DATA), digest)
    assert (found.code, bool(found.retry_after_seconds)) == (RefusalCode.INTERNAL, True)
    proxy.faults = []
    blobs.upload_to_blob("token", len(DATA), digest)
    assert blobs.get(digest) == DATA


def test_a_store_that_stays_away_is_a_refusal_in_time(proxy):
    blobs = bucket(proxy.endpoint, patience=1.0)
    digest = blobs.put(DATA)
    proxy.faults = [Fault(1000, status=503)]
    for call, arguments in (
        (blobs.put, (b"other",)),
        (blobs.get, (digest,)),
        (blobs.size, (digest,)),
        (blobs.sizes, ([digest],)),
        (blobs.delete, (digest,)),
        (blobs.append_upload, ("token", 0, b"x", 1)),
    ):
        began = time.monotonic()
        found = refusal(call, *arguments)
        assert (found.code, bool(found.retry_after_seconds)) == (RefusalCode.INTERNAL, True)
        assert time.monotonic() - began < 30
    proxy.faults = []
    assert blobs.get(digest) == DATA


def test_a_place_that_cannot_be_used_says_what_to_do():
    with pytest.raises(InputError, match="names no bucket"):
        S3Blobs("http://bucket/x")
    with pytest.raises(InputError, match="that it runs"):
        bucket(f"http://127.0.0.1:{free_port()}", patience=1.0, name="any").check()
    with pytest.raises(InputError, match="the bucket's name"):
        bucket(shared_s3().endpoint, name="there-is-none").check()


@pytest.mark.parametrize("digits", ["404", "403", "401"])
def test_an_address_with_the_digits_of_a_status_is_not_taken_for_one(digits):
    silent = bucket(f"http://127.0.0.1:{free_port()}", patience=0.2, name=f"status-{digits}")
    with pytest.raises(InputError, match="that it runs"):
        silent.check()


def test_a_wrong_secret_says_what_to_do():
    server = shared_nanio()
    wrong = {**KEYS, "secret_access_key": "other"}
    blobs = S3Blobs(
        f"s3://{server.new_bucket()}/pleb",
        endpoint=server.endpoint,
        region="us-east-1",
        patience=timedelta(seconds=1),
        **wrong,
    )
    with pytest.raises(InputError, match="key"):
        blobs.check()


@pytest.mark.parametrize("shared", [shared_s3, shared_nanio], ids=["moto", "nanio"])
def test_two_prefixes_of_a_bucket_do_not_meet(shared):
    server = shared()
    name = server.new_bucket()
    one, other = (
        S3Blobs(f"s3://{name}/{p}", endpoint=server.endpoint, region="us-east-1", **KEYS)
        for p in ("one", "other")
    )
    digest = one.put(DATA)
    assert not other.exists(digest)
    assert list(other.stored(FileKind.BLOB)) == []


def test_a_signature_is_good_for_one_place_one_size_one_method_and_a_while():
    """The server verifies signatures by itself, as S3's own documentation has it."""
    server = shared_nanio()
    address = f"{server.endpoint}/{server.new_bucket()}/some/where"
    now = time.time()
    signer = UploadSigner(address, region="us-east-1", **KEYS, clock=lambda: now)
    place, query = "uploads/ab/0", signer.query("uploads/ab/0", 5)

    def put(where=place, body=b"12345", asked=query, method="PUT"):
        return httpx.request(method, f"{address}/{where}?{asked}", content=body).status_code

    assert put() == 200
    assert put() == 200  # sent again
    assert put(where="uploads/ab/1") == put(where="blobs/ab/0") == put(where="uploads/../x") == 403
    assert put(body=b"1234") == put(body=b"123456") == 403
    assert put(asked=query.replace("Expires=900", "Expires=9000")) == 403
    assert put(method="DELETE") == put(method="POST") == 403
    assert httpx.get(f"{address}/{place}?{query}").status_code == 403
    now -= 901
    assert put(asked=signer.query(place, 5)) == 403
    assert KEYS["secret_access_key"] not in query


def test_what_a_host_puts_there_is_a_part_as_if_it_had_come_here():
    server = shared_nanio()
    name = server.new_bucket()
    address = f"{server.endpoint}/{name}/pleb"
    blobs = S3Blobs(
        f"s3://{name}/pleb", endpoint=server.endpoint, region="us-east-1", public=address, **KEYS
    )
    size = len(DATA)
    assert blobs.append_upload("token", 0, DATA[:1000], size) == 1000
    assert blobs.signer is not None
    found = blobs.signer.parts("token", 1000, size)
    assert (found.offset, [part.size for part in found.parts]) == (1000, [size - 1000])
    url = f"{address}/{part_place('token', 1000)}?{found.parts[0].query}"
    assert httpx.put(url, content=sealed_part(DATA[1000:])).is_success
    assert blobs.upload_offset("token") == size
    assert b"".join(blobs.upload_parts("token", size)) == DATA
    assert httpx.put(url, content=DATA[1000:] + bytes(32)).is_success
    with pytest.raises(DamagedPartError):
        list(blobs.upload_parts("token", size))
    assert blobs.signer.parts("token", size, size).parts == []


@pytest.mark.parametrize("size", [0, 31, 32, LIMITS.upload_part_bytes + 33])
def test_an_object_that_is_no_part_is_not_read(blobs, size):
    """A server that does not check the length that was signed takes anything."""
    blobs.append_upload("token", 0, DATA[:1000], 1500)
    blobs._put(part_place("token", 1000), bytes(size))
    assert blobs.upload_offset("token") == 1000


def test_a_signature_is_what_botocore_makes_of_the_same_headers(monkeypatch):
    """`S3SigV4QueryAuth` of botocore 1.44.8, for a PUT with this Content-Length, 900 s."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sec/ret+")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tok/en=")
    noon = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
    address = "https://bucket.s3.eu-central-1.amazonaws.com/pleb"
    signer = UploadSigner(address, region="eu-central-1", clock=lambda: noon)
    query = signer.query("uploads/" + "ab" * 32 + "/00000000000000000000", 2_097_184)
    signature = "d024240b3551deddc40027b7fbea341f098c44b4af3b571781c6443451b9e005"
    assert query.endswith(f"&X-Amz-Signature={signature}")


def test_signing_needs_an_address_and_a_key(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="access_key_id and secret_access_key"):
        UploadSigner("https://bucket.example.org/pleb")
    for address in (
        "https://bucket.example.org/a/",
        "ftp://x/a",
        "https://u:p@x/a",
        "https://x/a?b",
    ):
        with pytest.raises(InputError, match="public"):
            UploadSigner(address, **KEYS)
    with pytest.raises(InputError, match="letters, digits"):
        UploadSigner("https://x/a b%20".replace(" ", ""), **KEYS)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session/=")
    query = UploadSigner("https://bucket.example.org").query("uploads/ab/0", 5)
    assert "Credential=id%2F" in query
    assert "X-Amz-Security-Token=a%20session%2F%3D" in query
    assert msgspec.convert({"size": 5, "query": query}, DirectPart).query == query


def test_doctor_tries_the_address_for_hosts():
    server, lax = shared_nanio(), shared_s3()
    name, other = server.new_bucket(), server.new_bucket()
    blobs = S3Blobs(f"s3://{name}/pleb", endpoint=server.endpoint, region="us-east-1", **KEYS)

    def fault(address, blobs=blobs, **given):
        signer = UploadSigner(address, **{**KEYS, "region": "us-east-1", **given})
        return fault_of_public(blobs, signer)

    assert fault(f"{server.endpoint}/{name}/pleb") == ""
    assert list(blobs.stored(FileKind.BLOB)) == []
    assert "one place" in fault(f"{server.endpoint}/{other}/pleb")
    assert "answers 403" in fault(f"{server.endpoint}/{name}/pleb", secret_access_key="wrong")
    assert "from here" in fault(f"http://127.0.0.1:{free_port()}/{name}/pleb")
    name = lax.new_bucket()
    there = S3Blobs(f"s3://{name}/pleb", endpoint=lax.endpoint, region="us-east-1", **KEYS)
    assert "more bytes than were signed" in fault(f"{lax.endpoint}/{name}/pleb", there)
