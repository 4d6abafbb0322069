"""`backup`, `restore` and what `doctor` says of them, as an operator types them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from pleb_coordinator.cli import main
from pleb_coordinator.home.layout import LastBackup


def run(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = main([*map(str, arguments), "--json"])
    return code, json.loads(output.getvalue())


@pytest.fixture
def home(tmp_path):
    assert run("init", "--home", tmp_path / "home")[0] == 0
    return tmp_path / "home"


def backup_check(home):
    checks = run("doctor", "--home", home)[1]["checks"]
    return next(check for check in checks if check["name"] == "backup")


def test_a_home_comes_back_from_its_backup(home, tmp_path):
    code, made = run("backup", tmp_path / "backups", "--home", home)
    assert code == 0
    key = (home / "keys" / "online.key").read_bytes()
    shutil.rmtree(home)
    code, found = run("restore", made["backup"], "--home", home)
    assert (code, found["projects"]) == (0, [])
    assert (home / "keys" / "online.key").read_bytes() == key
    assert run("status", "--home", home)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["restore", "nothing"], "There is no backup"),
        (["restore", "backups"], "is not empty"),
        (["backup", "home/inside"], "inside the home"),
        (["backup", "a-file"], "cannot be used"),
        (["restore", "a-file"], "There is no backup"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence(home, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("no folder")
    assert run("backup", "backups", "--home", home)[0] == 0
    code, found = run(*arguments, "--home", home)
    assert code in {1, 2}
    assert sentence in found["message"]


def test_backups_go_on_and_only_the_newest_are_kept(home, tmp_path):
    to = tmp_path / "backups"
    command = [sys.executable, "-m", "pleb_coordinator.cli", "backup", str(to)]
    command += ["--every", "1s", "--keep", "2", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert all(b"The keys are in" in line for line in lines)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0, "SIGTERM ends it as it should"
    assert len(list(to.glob("[0-9]*"))) == 2
    check = backup_check(home)
    assert check["good"], check


def test_one_more_goes_where_the_last_one_went(home, tmp_path):
    code, found = run("backup", "--again", "--home", home)
    assert code == 2
    assert "No backup was made yet" in found["message"]
    to, keys = tmp_path / "backups", tmp_path / "apart"
    assert run("backup", to, "--keys", keys, "--home", home)[0] == 0
    time.sleep(1.1)  # names are whole seconds
    code, found = run("backup", "--again", "--home", home)
    assert code == 0
    assert found["keys"] == str(keys)
    assert len(list(to.glob("[0-9]*"))) == 2
    assert not (to / "keys").exists(), "keys stay apart"
    for wrong in (
        ["backup"],
        ["backup", to, "--again"],
        ["backup", to, "--coordinator", "https://x"],
    ):
        assert run(*wrong, "--home", home)[0] == 2


def test_doctor_says_when_backups_have_stopped(home):
    assert "none was made" in backup_check(home)["found"]
    last = LastBackup(at=time.time() - 8 * 3600, folder="/mnt/x", every_seconds=2 * 3600)
    (home / "backup.json").write_bytes(msgspec.json.encode(last))
    check = backup_check(home)
    assert not check["good"]
    assert check["found"] == "8 h ago, in /mnt/x, not every 2 h: start `backup` again"
