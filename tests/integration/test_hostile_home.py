"""A home in which something else stands where a file should: a sentence, and nothing is harmed."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pleb_agent.app.home import Home
from pleb_agent.app.remote import AgentdAnswerError, Remote
from pleb_agent.cli import main
from pleb_agent.control import live_preferences
from pleb_agent.desktop import notify
from pleb_agent.journal.journal import Journal, JournalError
from pleb_agent.journal.keys import KeyStore
from pleb_shared.errors import InputError
from tests.e2e.world import run_cli


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("preferences.json", "folder"),
        ("preferences.json", "loop"),
        ("rules.json", "folder"),
        ("rules.json", "pipe"),
        ("keys/page.secret", "folder"),
        ("agentd.lock", "folder"),
        ("agentd.json", "folder"),
        ("logs/agentd.jsonl", "folder"),
        ("logs/agentd.jsonl", "pipe"),
        ("agentd.lock", "pipe"),
    ],
)
def test_what_is_no_file_gets_a_sentence(tmp_path, place, what):
    path = tmp_path / "home" / place
    path.parent.mkdir(parents=True, mode=0o700)
    if what == "folder":
        (path / "precious").mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    words = ["start", "--headless", "--json", "--home", tmp_path / "home"]
    done = run_cli("pleb_agent", *words, check=False)
    code, sentence = (
        (2, "be read")
        if path.suffix == ".json" and place != "agentd.json"
        else (1, "check its permissions")
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert sentence in json.loads(done.stdout)["message"]
    if what == "folder":
        assert (path / "precious").is_dir()


@pytest.mark.parametrize("place", ["keys", "cache", "work", "logs"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, place, capsys):
    (tmp_path / place).write_text("precious")
    assert main(["start", "--headless", "--home", str(tmp_path)]) == 2
    assert f"{tmp_path / place} is no folder: move what is in its place" in capsys.readouterr().err
    assert (tmp_path / place).read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b"{,}", "it is no valid JSON"),
        (b"\xff\xfe", "it is no valid JSON"),
        (b"{}", "it does not say its version"),
    ],
)
def test_malformed_preferences_are_told_without_a_librarys_words(tmp_path, content, said, capsys):
    (tmp_path / "preferences.json").write_bytes(content)
    assert main(["prefs", "list", "--home", str(tmp_path)]) == 2
    assert f"The preferences cannot be read ({said}): correct" in capsys.readouterr().err


def test_a_damaged_journal_is_told_how_to_keep_the_account(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(os.urandom(400))
    with pytest.raises(JournalError, match="keep the folder keys"):
        Journal(tmp_path / "journal.sqlite")


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("database or disk is full", "free some disk space"),
        ("attempt to write a readonly database", "let this user write"),
        ("unable to open database file", "let this user write"),
        ("a pipe is in its place", "move that away"),
        ("database disk image is malformed", "keep the folder keys"),
    ],
)
def test_a_journal_that_is_not_damaged_is_not_to_be_moved_away(tmp_path, reason, remedy):
    journal = Journal(tmp_path / "journal.sqlite")
    with pytest.raises(JournalError, match=remedy), journal.transaction():
        raise sqlite3.OperationalError(reason)
    journal.close()


def test_a_full_disk_is_said_to_be_one(tmp_path, capsys, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # a write names no file

    monkeypatch.setattr(live_preferences, "write_durably", full)
    assert main(["prefs", "set", "--home", str(tmp_path), "idle_minutes=9"]) == 1
    assert "There is no room left on the disk" in capsys.readouterr().err


def test_more_threads_than_a_preference_may_have_are_refused_for_one_run_too(tmp_path, capsys):
    assert main(["start", "--headless", "--home", str(tmp_path), "--threads", "9999"]) == 2
    assert "threads cannot be 9999" in capsys.readouterr().err


def test_a_new_journal_beside_old_keys_is_noticed(tmp_path):
    keys = KeyStore(tmp_path)
    assert not keys.has_accounts()
    keys.load_or_make("words-123.account.key")
    assert keys.has_accounts()


def test_an_answer_that_is_no_json_is_an_error_of_the_agent(tmp_path):
    class Failing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b"Internal Server Error")

        def log_message(self, *_):
            pass

    home = Home(tmp_path)
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        control = {"pid": os.getpid(), "port": server.server_port, "token": "t"}
        home.control.write_text(json.dumps(control))
        with pytest.raises(AgentdAnswerError, match="an error \\(status 500\\): `pleb-agent logs`"):
            Remote(home).get("status")


def test_preferences_of_another_user_are_not_to_be_deleted(tmp_path, monkeypatch):
    def foreign(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(live_preferences, "read_regular", foreign)
    with pytest.raises(InputError, match="let this user read"):
        live_preferences.read_preferences(tmp_path / "preferences.json")


@pytest.mark.parametrize(("headless", "terminal", "shown"), [
    (False, False, 1), (True, False, 0), (False, True, 0),
])  # fmt: skip
def test_a_start_that_fails_where_nobody_reads_is_notified(
    tmp_path, monkeypatch, headless, terminal, shown
):
    said = []

    class Notifier:
        def show(self, title: str, body: str) -> None:
            said.append((title, body))

    monkeypatch.setattr(notify, "notifier", Notifier)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    (tmp_path / "preferences.json").write_text("{")
    words = ["start", "--no-tray", "--home", str(tmp_path)] + ["--headless"] * headless
    assert main(words) == 2
    assert len(said) == shown
    assert all("The agent does not run. The preferences" in body for _, body in said)
