"""Durable writing: the order of the steps, and what a crash between them leaves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pleb_system.durable import create_private, remove_private, write_durably


class PowerCutError(Exception):
    """Ends the writing at a chosen step."""


def record_steps(patch: pytest.MonkeyPatch, fail_at: int) -> list[str]:
    """Record syncs and renames; the step number `fail_at` does not happen any more."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def step(name: str) -> None:
        if len(steps) == fail_at:
            raise PowerCutError
        steps.append(name)

    def sync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").resolve()
        step("sync directory" if target.is_dir() else "sync file")
        fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        step("rename")
        return replace(path, target)

    patch.setattr(os, "fsync", sync)
    patch.setattr(Path, "replace", rename)
    return steps


def test_bytes_reach_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = record_steps(monkeypatch, fail_at=99)
    write_durably(tmp_path / "file", b"a", b"b")
    assert steps == ["sync file", "rename", "sync directory"]
    assert (tmp_path / "file").read_bytes() == b"ab"


@pytest.mark.parametrize(("fail_at", "content"), [(0, b"old"), (1, b"old"), (2, b"new")])
def test_a_crash_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int, content: bytes
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    record_steps(monkeypatch, fail_at)
    with pytest.raises(PowerCutError):
        write_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == content


def test_nobody_else_can_read_a_private_file_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "file.part"
    beside.write_bytes(b"left by an earlier process")
    beside.chmod(0o644)
    modes: list[int] = []
    sync = os.fsync

    def recorded_sync(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    write_durably(tmp_path / "file", b"key", private=True)
    assert modes[0] & 0o777 == 0o600
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_processes_that_share_a_file_do_not_write_over_each_others_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    seen: list[str] = []

    def other_process_writes(descriptor: int) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        monkeypatch.setattr(os, "fsync", sync)
        write_durably(tmp_path / "blob", b"same", shared=True)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", other_process_writes)
    write_durably(tmp_path / "blob", b"same", shared=True)
    assert [name[0] for name in seen] == ["."]
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]
    assert (tmp_path / "blob").read_bytes() == b"same"


def test_nothing_is_left_beside_the_file_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_is_whole_or_absent_wherever_the_power_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty key file would count as the key from then on."""
    link = os.link
    for fail_at in range(3):
        folder = tmp_path / str(fail_at)
        folder.mkdir()
        with monkeypatch.context() as patch:
            steps = record_steps(patch, fail_at)

            def linked(source: Path, target: Path, steps: list[str] = steps) -> None:
                steps.append("link")
                link(source, target)

            patch.setattr(os, "link", linked)
            with contextlib.suppress(PowerCutError):
                create_private(folder / "key", b"secret")
        key = folder / "key"
        assert not key.exists() or key.read_bytes() == b"secret"
        if not key.exists():
            create_private(key, b"second")
        assert [path.name for path in folder.iterdir()] == ["key"]


@pytest.mark.parametrize(
    ("step", "left"),
    [("os.fsync", None), ("os.link", None), ("Path.unlink", b"secret")],
)
def test_a_private_file_after_a_real_kill(tmp_path: Path, step: str, left: bytes | None) -> None:
    """Here nothing cleans up: the process ends in the middle of a step."""
    program = (
        "import os, sys; from pathlib import Path; from pleb_system.durable import create_private\n"
        "def kill(*_, **__): os.kill(os.getpid(), 9)\n"
        f"{step} = kill\n"
        "create_private(Path(sys.argv[1]), b'secret')\n"
    )
    key = tmp_path / "key"
    ended = subprocess.run([sys.executable, "-c", program, str(key)], check=False, timeout=60)
    assert ended.returncode == -9
    assert (key.read_bytes() if key.exists() else None) == left
    if left is None:
        create_private(key, b"second")
    remove_private(key)
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(_: object, __: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    create_private(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "key", b"second")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").read_bytes() == b"first"


def test_a_private_file_is_made_once_for_one_reader(tmp_path: Path) -> None:
    create_private(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
