"""The signed log of versions: what is in it can be proven, and nothing can be changed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleb_shared.errors import Refusal, TrustError
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.version_log import (
    FIRST,
    LogEntry,
    LogHead,
    contains,
    join_leaves,
    log_lines,
    read_log,
    result_leaf,
    taken_back,
)

LEAVES = [result_leaf(f"{n:032x}", f"{n:064x}", f"{n + 1:064x}") for n in range(5)]


def entry(number, epoch=0, restores=None):
    results = None if not number or restores is not None else blob_of(join_leaves(LEAVES))
    return LogEntry(
        epoch=epoch,
        number=number,
        digest=digest_of(b"%d" % number),
        restores=restores,
        results=results,
        previous=FIRST,
    )


def log(count=4):
    lines = list(log_lines(entry(number) for number in range(count)))
    head = LogHead(
        project="words",
        entries=count,
        last=digest_of(lines[-1]),
        epoch=0,
        version=count - 1,
        issued_at=1,
    )
    return lines, head


def test_a_log_is_read_as_it_was_written():
    lines, head = log()
    found = read_log(b"\n".join(lines), head)
    assert [one.number for one, _ in found] == [0, 1, 2, 3]
    assert [digest for _, digest in found] == [digest_of(line) for line in lines]
    assert found[1][0].previous == found[0][1]


def test_what_came_after_the_signature_is_left_out():
    lines, head = log(4)
    shorter = msgspec.structs.replace(head, entries=3, last=digest_of(lines[2]), version=2)
    assert len(read_log(b"\n".join(lines), shorter)) == 3


@given(st.integers(0, 3), st.data())
def test_no_byte_can_be_changed(number, data):
    lines, head = log()
    at = data.draw(st.integers(0, len(lines[number]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b not in {lines[number][at], 10}))
    lines[number] = lines[number][:at] + bytes([byte]) + lines[number][at + 1 :]
    with pytest.raises((TrustError, Refusal)):
        read_log(b"\n".join(lines), head)


@pytest.mark.parametrize("change", ["left_out", "swapped", "twice", "none"])
def test_no_line_can_be_moved(change):
    lines, head = log()
    altered = {
        "left_out": [lines[0], *lines[2:]],
        "swapped": [lines[0], lines[2], lines[1], lines[3]],
        "twice": [lines[0], lines[1], lines[1], lines[3]],
        "none": [],
    }[change]
    with pytest.raises(TrustError, match=r"[Tt]h(e|is) log"):
        read_log(b"\n".join(altered), head)


def test_a_log_that_was_cut_off_says_so():
    lines, head = log()
    with pytest.raises(TrustError, match="has 2 of the 4 versions"):
        read_log(b"\n".join(lines[:2]), head)


def test_a_head_of_another_version_is_refused():
    lines, head = log()
    with pytest.raises(TrustError, match="not the one that the coordinator has signed"):
        read_log(b"\n".join(lines), msgspec.structs.replace(head, version=7))


def test_a_host_finds_its_own_results_and_no_others():
    blob = join_leaves(LEAVES)
    assert all(contains(blob, leaf) for leaf in LEAVES)
    nonce, host, digest = f"{0:032x}", f"{0:064x}", f"{1:064x}"
    assert contains(blob, result_leaf(nonce, host, digest))
    for other in [
        (f"{9:032x}", host, digest),
        (nonce, f"{9:064x}", digest),
        (nonce, host, f"{9:064x}"),
    ]:
        assert not contains(blob, result_leaf(*other))


def test_a_leaf_is_not_found_across_two_others():
    blob = join_leaves(LEAVES)
    assert not contains(blob, blob[16:48])


def test_the_order_of_leaves_tells_nothing_of_the_order_of_results():
    assert join_leaves(LEAVES) == join_leaves(reversed(LEAVES))


def test_versions_that_a_restoration_took_back():
    entries = [entry(0), entry(1), entry(2), entry(3), entry(4, restores=1), entry(5)]
    assert taken_back(entries) == {(0, 2), (0, 3)}
