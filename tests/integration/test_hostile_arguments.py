"""Whatever is typed at a command, and whatever its home is: an answer, never a traceback."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pleb_coordinator.cli import main
from pleb_coordinator.cli.parser import make_parser
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_shared.protocol.messages import Role
from pleb_system.exit_codes import ExitCode
from tests.integration.steps_world import World
from tests.parsers import record_commands

if TYPE_CHECKING:
    from pathlib import Path

LASTING = {"serve", "work"}
"""They would go on."""
VALUES = [
    "",
    " ",
    "-",
    "--",
    "../..",
    "x" * 5000,
    "\udcff",
    "-1",
    "9" * 30,
    "nan",
    "1e400",
    "%s%n{}",
    "'; DROP TABLE units; --",
    "\u202e\x1b[31m\n",
    "ti*",
    "٣",
]
USUAL = {
    "project": "tiny",
    "host": "volunteer",
    "unit": "1",
    "team": "lab",
    "invite": "0123abcd",
    "key": "0123abcd",
    "file": "out.safetensors",
    "folder": "backups",
    "to": "mirrored",
    "url": "http://127.0.0.1:9",
    "address": "https://127.0.0.1:9#" + "0" * 48,
    "name": "anna",
    "family": "letters",
}
QUICK = {"simulate": ["--hours", "0.01", "--hosts", "1"], "doctor": ["--blobs", "1"]}
PARSERS = record_commands(make_parser)[1]


def words_of(parser):
    return parser.prog.split()[1:]


def arguments_of(parser):
    """Yield (action, the words that give it a value) of all that takes one."""
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._StoreTrueAction)):
            continue
        yield action


def command_lines():
    """Yield command lines with one hostile value each."""
    for parser in PARSERS:
        words = words_of(parser)
        if words[0] in LASTING:
            continue
        positional = [a for a in parser._actions if not a.option_strings]
        for action in arguments_of(parser):
            if action.dest == "home":
                continue
            for value in VALUES:
                if action.option_strings:
                    given = [USUAL[a.dest] for a in positional if a.nargs != "?"]
                    given += [f"{action.option_strings[0]}={value}"]
                else:
                    given = [value if a is action else USUAL[a.dest] for a in positional]
                every = action.dest == "every"  # it would go on
                if not every:
                    yield [*words, *QUICK.get(words[0], []), *given]


def answer(argv, home):
    """Run a command; return its exit code, after a look at what it said."""
    out, err = io.StringIO(), io.StringIO()
    refused: object = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([*argv, "--home", str(home), "--json"])
        except SystemExit as caught:
            code, refused = 2, caught
    said = out.getvalue() + err.getvalue()
    assert "Traceback" not in said, argv
    said.encode()  # a terminal can show it
    if isinstance(refused, SystemExit):
        assert refused.code == 2, argv
        assert "usage" in said, argv
        return code
    last = json.loads(out.getvalue().splitlines()[-1])
    if code:
        assert code in {int(known) for known in ExitCode}, argv
        assert "message" in last or "good" in last or "verified" in last, argv
        for inner in ("Errno", "Exception", "NoneType", "sqlite3."):
            assert inner not in last.get("message", ""), argv
    return code


@pytest.fixture
def world(tmp_path, monkeypatch):
    folder = tmp_path / "some" / "where"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    home = tmp_path / "home"
    home.mkdir()
    found = World(home, units=2, quorum=2)
    trusted = found.volunteer("trusted", role=Role.TRUSTED)
    while found.project.version < 2:
        found.work(trusted)
    found.store.close()
    make_secret_file(Home(home).secret_file)
    (home / "coordinator.toml").write_text(config_text(CoordinatorConfig()))
    return found


def test_hostile_arguments_of_every_command(world):
    lines = list(command_lines())
    assert len(lines) > 400
    commands = {tuple(words_of(parser)) for parser in PARSERS}
    tried = {tuple(line[:2]) for line in lines} | {tuple(line[:1]) for line in lines}
    assert {c for c in commands if c[0] not in LASTING} <= tried | {
        c for c in commands if not any(True for _ in varied(c))
    }
    codes = {answer(line, world.home) for line in lines}
    assert {0, 2} <= codes


def varied(command):
    [parser] = [p for p in PARSERS if tuple(words_of(p)) == command]
    return (a for a in arguments_of(parser) if a.dest != "home")


def garbage(path: Path, data: bytes):
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def folder_at(path: Path):
    path.unlink(missing_ok=True)
    path.mkdir()


def no_table(home):
    with contextlib.closing(sqlite3.connect(home / "store.sqlite")) as db:
        db.execute("DROP TABLE alembic_version")
        db.commit()


def other_columns(home):
    with contextlib.closing(sqlite3.connect(home / "store.sqlite")) as db:
        db.execute("ALTER TABLE hosts DROP COLUMN refuses")
        db.commit()


def link_to_nothing(path: Path):
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


CONFIGURATION = config_text(CoordinatorConfig()).encode()
HOMES = {
    "store is no database": lambda h: garbage(h / "store.sqlite", b"no database" * 100),
    "store is empty": lambda h: garbage(h / "store.sqlite", b""),
    "store is cut off": lambda h: garbage(
        h / "store.sqlite", (h / "store.sqlite").read_bytes()[:5000]
    ),
    "store is a folder": lambda h: folder_at(h / "store.sqlite"),
    "store is gone": lambda h: (h / "store.sqlite").unlink(),
    "store has no schema": no_table,
    "store is a development version's": other_columns,
    "store is a link to nothing": lambda h: link_to_nothing(h / "store.sqlite"),
    "configuration is no text": lambda h: garbage(h / "coordinator.toml", b"\xff\xfe\x00"),
    "configuration is empty": lambda h: garbage(h / "coordinator.toml", b""),
    "configuration is of the future": lambda h: garbage(
        h / "coordinator.toml", CONFIGURATION.replace(b"version = 1\n", b"version = 9\n", 1)
    ),
    "configuration is a folder": lambda h: folder_at(h / "coordinator.toml"),
    "configuration has an unknown setting": lambda h: garbage(
        h / "coordinator.toml", CONFIGURATION + b"\n[other]\nx = 1\n"
    ),
    "configuration keeps a negative number": lambda h: garbage(
        h / "coordinator.toml", CONFIGURATION.replace(b"milestones = 8", b"milestones = -8")
    ),
    "configuration has a list too deep": lambda h: garbage(
        h / "coordinator.toml", b"version = 1\nx = " + b"[" * 5000
    ),
    "key is short": lambda h: garbage(h / "keys" / "online.key", b"short"),
    "key is gone": lambda h: (h / "keys" / "online.key").unlink(),
    "secret is a folder": lambda h: folder_at(h / "secret"),
    "secret is long": lambda h: garbage(h / "secret", b"x" * 1000),
    "listening is garbage": lambda h: garbage(h / "listening.json", b"{"),
    "listening names process 0": lambda h: garbage(
        h / "listening.json", b'{"url":"http://x","certificate":null,"pid":0}'
    ),
    "clock is garbage": lambda h: garbage(h / "clock.json", b"[1,2"),
    "backup is garbage": lambda h: garbage(h / "backup.json", b'{"at":"x"}'),
}
READING = [
    "status",
    "doctor --blobs 1",
    "compact",
    "log tiny",
    "log --audit",
    "project list",
    "project show tiny",
    "project pause tiny",
    "unit list tiny",
    "unit show 1",
    "host list tiny",
    "model list tiny",
    "model verify tiny",
    "invite list",
    "invite new",
    "key list",
    "key rotate",
    "migrate",
    "init",
    "backup backups",
    "simulate tiny --hours 0.01 --hosts 1",
]


@pytest.mark.parametrize("kind", HOMES)
def test_hostile_homes(world, kind):
    HOMES[kind](world.home)
    codes = [answer(line.split(), world.home) for line in READING]
    assert len(codes) == len(READING)


@pytest.mark.parametrize(
    "place", ["file", "empty", "missing", "missing/below", "/dev/null", "/proc"]
)
def test_places_that_are_no_home(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    home = tmp_path / place
    for line in itertools.chain(READING, ["project delete tiny --yes", "host ban tiny x"]):
        if line != "init" or place in {"file", "/dev/null", "/proc"}:
            assert answer(line.split(), home) or line.startswith(("key rotate", "invite", "simul"))
