"""An archive fills its own folder and nothing else, or is refused as a whole."""

from __future__ import annotations

import io
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from pleb_agent.updates.errors import BrokenArchiveError
from pleb_agent.updates.unpack import unpack

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


def entry(name: str, data: bytes = b"x", **fields) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", type=kind, linkname=target)


def run(tmp_path: Path, *members, most_bytes=MIB, most_files=10, stop=None) -> Path:
    archive = tmp_path / "some.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    folder = tmp_path / "inside" / "folder"
    folder.parent.mkdir(exist_ok=True)
    stop = stop or threading.Event()
    unpack(archive, folder, most_bytes=most_bytes, most_files=most_files, stop=stop)
    return folder


def test_files_folders_and_inner_links_are_unpacked(tmp_path):
    folder = run(
        tmp_path,
        entry("a/program", b"run", mode=0o4777),
        entry("a/text", b"read", mode=0o600),
        entry("empty", b"", type=tarfile.DIRTYPE),
        link("a/b", "text"),
        link("c", "a/b"),
    )
    assert (folder / "c").read_bytes() == b"read"
    assert (folder / "empty").is_dir()
    assert (folder / "a" / "program").stat().st_mode & 0o7777 == 0o755
    assert (folder / "a" / "text").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    "members",
    [
        [entry("/absolute")],
        [entry("../beside")],
        [entry("a/../../beside")],
        [entry("C:\\windows")],
        [entry("a\\b")],
        [entry("a:stream")],
        [link("out", "/etc/passwd")],
        [link("out", "../..")],
        [link("a/up", ".."), link("b", "a/up/..")],
        [link("twice", "x"), entry("twice")],
        [link("through", "."), entry("through/file")],
        [entry("file"), entry("file")],
        [entry("file"), entry("file/below")],
        [entry("file"), link("file", "x")],
        [entry("file"), entry("file", b"", type=tarfile.DIRTYPE)],
        [entry("file"), link("hard", "file", tarfile.LNKTYPE)],
        [entry("pipe", b"", type=tarfile.FIFOTYPE)],
        [entry("device", b"", type=tarfile.CHRTYPE)],
        [link("loop", "loop2"), link("loop2", "loop"), link("z", "loop/../../..")],
    ],
    ids=lambda members: "+".join(f"{m.name}>{m.linkname}" for m, _ in members),
)
def test_what_leads_out_or_is_no_file_is_refused_and_nothing_stays(tmp_path, members):
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BrokenArchiveError):
        run(tmp_path, entry("good"), *members)
    left = {path.name for path in tmp_path.rglob("*")} - {path.name for path in before}
    assert left == {"some.tar.gz", "inside"}


def test_more_bytes_than_signed_are_refused(tmp_path):
    with pytest.raises(BrokenArchiveError, match="more than it was signed for"):
        run(tmp_path, entry("a", b"1" * 600), entry("b", b"1" * 600), most_bytes=1000)


def test_more_files_than_signed_are_refused(tmp_path):
    members = [entry(f"dir{i}", b"", type=tarfile.DIRTYPE) for i in range(11)]
    with pytest.raises(BrokenArchiveError, match="more than it was signed for"):
        run(tmp_path, *members)


@pytest.mark.parametrize("keep", [0, 40, 3000])
def test_a_cut_archive_is_refused(tmp_path, keep):
    whole = tmp_path / "whole.tar.gz"
    with tarfile.open(whole, "w:gz", compresslevel=0) as tar:
        member, data = entry("a", b"1" * 9000)
        tar.addfile(member, io.BytesIO(data))
    whole.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(BrokenArchiveError, match="cannot be read"):
        unpack(whole, tmp_path / "f", most_bytes=MIB, most_files=9, stop=threading.Event())
    assert not (tmp_path / "f").exists()


def test_unpacking_can_be_stopped(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(BrokenArchiveError, match="stopped"):
        run(tmp_path, entry("a"), stop=stop)
    assert not (tmp_path / "inside" / "folder").exists()
