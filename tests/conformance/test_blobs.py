"""What every blob store must do. A new one is added to `blobs` below."""

from __future__ import annotations

import os
import threading
import time

import pytest

from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.core.records import FileKind, StoredDelta
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from tests.s3_server import shared_nanio, shared_s3

DATA = b"0123456789" * 1000


KINDS = {
    "local": LocalBlobs,
    "s3 moto": lambda _: shared_s3().new_blobs(),
    "s3 nanio": lambda _: shared_nanio().new_blobs(),
}


@pytest.fixture(params=KINDS)
def blobs(request, tmp_path):
    return KINDS[request.param](tmp_path)


@pytest.fixture
def files(tmp_path):
    return LocalBlobs(tmp_path)


def refusal(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.code


def test_a_blob_is_named_by_its_content_and_comes_back(blobs):
    digest = blobs.put(DATA)
    assert digest == digest_of(DATA) == blobs.put(DATA)
    assert blobs.exists(digest)
    assert blobs.size(digest) == len(DATA)
    assert blobs.get(digest) == DATA
    assert blobs.read(digest, 9995, 9999) == DATA[9995:9999]
    assert blobs.read(digest, 0, len(DATA)) == DATA


def test_a_blob_that_is_not_there_is_a_typed_refusal(blobs):
    missing = "0" * 64
    assert not blobs.exists(missing)
    for call in (blobs.get, blobs.size):
        assert refusal(call, missing) == RefusalCode.UNKNOWN_BLOB
    assert refusal(blobs.read, missing, 0, 1) == RefusalCode.UNKNOWN_BLOB
    blobs.delete(missing)


def test_a_deleted_blob_can_be_put_again(blobs):
    digest = blobs.put(DATA)
    blobs.delete(digest)
    assert not blobs.exists(digest)
    assert blobs.put(DATA) == digest
    assert blobs.get(digest) == DATA


def file_of(tmp_path, digest):
    return tmp_path / "blobs" / digest[:2] / digest


def test_damaged_bytes_are_never_returned(files, tmp_path):
    digest = files.put(DATA)
    path = file_of(tmp_path, digest)
    path.chmod(0o600)
    path.write_bytes(DATA[:-1] + b"x")
    assert refusal(files.get, digest) == RefusalCode.UNKNOWN_BLOB


def test_an_upload_grows_only_at_its_end_and_only_to_its_size(blobs):
    assert blobs.upload_offset("token") == 0
    assert blobs.append_upload("token", 0, DATA[:10], 20) == 10
    assert refusal(blobs.append_upload, "token", 5, b"x", 20) == RefusalCode.WRONG_OFFSET
    assert refusal(blobs.append_upload, "token", 10, bytes(11), 20) == RefusalCode.WRONG_SIZE
    assert blobs.upload_offset("token") == 10
    assert blobs.append_upload("token", 10, DATA[10:20], 20) == 20
    assert b"".join(blobs.upload_parts("token", 20)) == DATA[:20]
    assert refusal(lambda: b"".join(blobs.upload_parts("token", 21))) == RefusalCode.WRONG_OFFSET


def test_an_upload_counts_only_whole_and_with_its_digest(blobs):
    blobs.append_upload("token", 0, DATA[:10], 20)
    digest = digest_of(DATA[:20])
    assert refusal(blobs.upload_to_blob, "token", 20, digest) == RefusalCode.WRONG_OFFSET
    blobs.append_upload("token", 10, bytes(10), 20)
    assert refusal(blobs.upload_to_blob, "token", 20, digest) == RefusalCode.WRONG_DIGEST
    assert not blobs.exists(digest)


def test_an_upload_becomes_a_blob_once_and_again(blobs):
    digest = digest_of(DATA)
    blobs.append_upload("token", 0, DATA, len(DATA))
    blobs.upload_to_blob("token", len(DATA), digest)
    blobs.upload_to_blob("token", len(DATA), digest)
    assert blobs.get(digest) == DATA
    assert blobs.upload_offset("token") == 0


def test_a_delta_is_kept_by_its_assignment_and_is_no_blob(blobs):
    blobs.put_delta(1234, b"an earlier one")
    blobs.put_delta(1234, DATA)
    blobs.put_delta(1234, DATA)
    stored = StoredDelta(1234, len(DATA), None)
    assert blobs.delta(stored) == DATA
    assert blobs.delta_view(stored, digest_of(DATA)) == DATA
    assert not blobs.exists(digest_of(DATA))
    blobs.delete_delta(1234)
    blobs.delete_delta(1234)
    assert refusal(blobs.delta, stored) == RefusalCode.UNKNOWN_BLOB
    assert refusal(blobs.delta_view, stored, digest_of(DATA)) == RefusalCode.UNKNOWN_BLOB


def test_a_delta_comes_in_a_file_and_nothing_is_left_of_one_that_does_not(blobs, tmp_path):
    with pytest.raises(ZeroDivisionError), blobs.temporary() as file:  # noqa: PT012
        file.write(DATA)
        raise ZeroDivisionError
    with blobs.temporary() as file:
        for at in range(0, len(DATA), 1000):
            file.write(DATA[at : at + 1000])
        file.seek(5)  # wherever it was read last
        blobs.put_delta_file(1234, file)
    assert blobs.delta(StoredDelta(1234, len(DATA), None)) == DATA
    assert blobs.delta_view(StoredDelta(1234, len(DATA), None), digest_of(DATA)) == DATA
    blobs.delete_delta(1234)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_that_a_killed_process_has_left_goes_after_a_day(files, tmp_path):
    left, fresh = tmp_path / "uploads" / ".left", tmp_path / "uploads" / ".fresh"
    for path, age in ((left, 90_000), (fresh, 80_000)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    with files.temporary():
        pass
    assert list((tmp_path / "uploads").iterdir()) == [fresh]


@pytest.mark.parametrize("damage", [bytes(len(DATA)), DATA[:-1], b""])
def test_a_delta_that_was_changed_on_the_disk_is_not_given_out(blobs, damage):
    """What was verified is what enters the model."""
    blobs.put_delta(1234, damage)
    stored = StoredDelta(1234, len(DATA), None)
    assert refusal(blobs.delta_view, stored, digest_of(DATA)) == RefusalCode.UNKNOWN_BLOB
    in_row = StoredDelta(5, 5, b"small")
    assert refusal(blobs.delta_view, in_row, digest_of(b"smalk")) == RefusalCode.UNKNOWN_BLOB


def test_a_small_delta_needs_no_file(blobs):
    assert blobs.delta(StoredDelta(5, 5, b"small")) == b"small"
    assert blobs.delta_view(StoredDelta(5, 5, b"small"), digest_of(b"small")) == b"small"


def test_deltas_are_readable_by_their_owner_only_while_they_come_and_later(files, tmp_path):
    files.append_upload("token", 0, DATA, len(DATA))
    files.put_delta(2, DATA)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]


def test_tokens_cannot_leave_their_folder(blobs, tmp_path):
    blobs.append_upload("../../escaped", 0, b"x", 1)
    assert not (tmp_path.parent / "escaped").exists()
    assert blobs.upload_offset("../../escaped") == 1
    blobs.drop_upload("../../escaped")
    assert blobs.upload_offset("../../escaped") == 0


def test_many_writers_of_one_blob_leave_it_whole(blobs):
    failures = []

    def put():
        try:
            blobs.put(DATA)
        except Exception as error:  # noqa: BLE001 - any would be a failure
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert blobs.get(digest_of(DATA)) == DATA
    assert [name for name, _ in blobs.stored(FileKind.BLOB)] == [digest_of(DATA)]


def test_a_writer_leaves_nothing_beside_a_file(files, tmp_path):
    path = file_of(tmp_path, files.put(DATA))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_what_is_there_is_found_with_its_size_and_its_time(blobs):
    digests = [blobs.put(b"x" * length) for length in range(1, 6)]
    blobs.put_delta(7, DATA)
    sizes = blobs.sizes([*digests, "0" * 64])
    assert sizes == {digest: length for length, digest in enumerate(digests, 1)}
    stored = dict(blobs.stored(FileKind.BLOB))
    assert stored.keys() == set(digests)
    assert all(abs(written - time.time()) < 3600 for written in stored.values())
    assert [name for name, _ in blobs.stored(FileKind.DELTA)] == ["7"]
    assert blobs.free_bytes() > 0
    blobs.check()


def test_an_upload_of_many_parts_becomes_a_blob(blobs):
    parts = [bytes([n]) * (1000 + n) for n in range(20)]
    whole = b"".join(parts)
    end = 0
    for part in parts:
        end = blobs.append_upload("token", end, part, len(whole))
    assert blobs.upload_offset("token") == len(whole)
    assert b"".join(blobs.upload_parts("token", len(whole))) == whole
    blobs.upload_to_blob("token", len(whole), digest_of(whole))
    assert blobs.get(digest_of(whole)) == whole
