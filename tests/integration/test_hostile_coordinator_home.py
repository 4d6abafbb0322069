"""A coordinator's home that cannot be used as it should: one sentence, never a traceback."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import sqlite3

import pytest

import pleb_coordinator.cli
import pleb_coordinator.store.migrate
from pleb_coordinator.cli import main

NOBODY = 65534
COMMANDS = ["status", "doctor", "invite list", "invite new", "key list", "key rotate", "migrate"]


def run(home, *arguments):
    """Run a command of one that is not root; return its exit code and what it said."""
    for module in pkgutil.iter_modules(pleb_coordinator.cli.__path__):
        if module.name != "__main__":
            importlib.import_module(f"pleb_coordinator.cli.{module.name}")
    is_root = os.geteuid() == 0
    with contextlib.redirect_stdout(io.StringIO()) as output:
        if is_root:
            os.seteuid(NOBODY)
        try:
            code = main([*arguments, "--home", str(home), "--json"])
        finally:
            if is_root:
                os.seteuid(0)
    return code, json.loads(output.getvalue())


def give_away(path):
    """Let the one that is not root own a folder with all in it."""
    for found in (path, *path.rglob("*")):
        if os.geteuid() == 0:
            os.chown(found, NOBODY, NOBODY)


@pytest.fixture
def home(tmp_path):
    """A home of one that is not root, in a folder that he can enter."""
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    tmp_path.chmod(0o777)
    code, said = run(tmp_path / "home", "init")
    assert code == 0, said
    yield tmp_path / "home"
    for found in (tmp_path / "home").rglob("*"):
        if found.is_dir():
            found.chmod(0o700)


def shut(home):
    """Make all of it read-only."""
    for found in (*home.rglob("*"), home):
        found.chmod(0o555 if found.is_dir() else 0o444)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_schema_says_who_must_be_updated(home, command):
    with contextlib.closing(sqlite3.connect(home / "store.sqlite")) as db:
        db.execute("UPDATE alembic_version SET version_num = '0999'")
        db.commit()
    give_away(home)
    code, found = run(home, *command.split())
    said = json.dumps(found)
    if command != "key rotate":  # it needs no store
        assert code != 0
        assert "0999" in said
        assert "newer release" in said
        assert "migrate" not in said.replace("`migrate`", "")


@pytest.mark.parametrize("command", ["invite new", "key rotate", "migrate", "backup backups"])
def test_a_read_only_home_is_said_to_be_one(home, command, monkeypatch):
    monkeypatch.chdir(home.parent)
    shut(home)
    code, found = run(home, *command.split())
    assert code in {1, 2}
    assert any(word in found["message"] for word in ("permissions", "be written"))


def test_doctor_looks_at_a_read_only_home_and_at_keys_that_cannot_be_read(home):
    (home / "keys" / "online.key").chmod(0)
    code, found = run(home, "doctor")
    assert code == 8
    check = next(check for check in found["checks"] if check["name"] == "online key")
    assert not check["good"]
    assert "permissions" in check["found"]
    (home / "keys" / "online.key").chmod(0o600)
    shut(home)
    code, found = run(home, "doctor")
    assert code == 8
    check = next(check for check in found["checks"] if check["name"] == "store")
    assert not check["good"]
    assert "permissions" in check["found"]


@pytest.mark.parametrize("place", ["keys/online.key", "secret"])
@pytest.mark.parametrize("command", ["status", "doctor", "key list"])
def test_a_folder_in_the_place_of_a_key_gets_a_sentence(home, place, command):
    (home / place).unlink()
    (home / place).mkdir()
    give_away(home)
    code, found = run(home, *command.split())
    needed = "secret" if command == "status" else "online.key" if "key" in command else place
    if needed in place or command == "doctor":
        assert code in {1, 2, 8}
        assert place in json.dumps(found)


@pytest.mark.parametrize(
    "arguments",
    [
        "doctor --blobs -4",
        "simulate --hours nan",
        "simulate --hours inf",
        "simulate --unit-minutes nan",
        "simulate --share nan",
        "simulate --trusted -1",
        "serve --clock-offset nan",
        "host ban x y --days -5",
        "invite new --days nan",
        "unit show 99999999999999999999999",
        "model export x f --ema nan",
        "model rollback x --to -3",
    ],
)
def test_numbers_that_make_no_sense_are_refused_as_arguments(home, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(home, *arguments.split())
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "pleb.example.org",
        "https://",
        "http://a b",
        "https://x?y",
        "https://x#y",
        "https://me@x",
        "https://x:99999",
        "javascript:alert(1)",
    ],
)
def test_addresses_that_nobody_can_open_are_refused(home, url):
    code, found = run(home, "init", "--url", url)
    assert (code, "is not an address" in found["message"]) == (2, True)


@pytest.mark.parametrize("url", ["https://x", "http://192.0.2.1:8080", "https://x/base/path"])
def test_addresses_with_and_without_a_base_path_are_taken(home, url):
    assert run(home, "init", "--url", url)[0] == 0
