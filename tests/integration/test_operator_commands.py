"""What an operator does by hand: cancel, delete, and who did it."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import msgspec
import pytest

from pleb_coordinator.admin.table import TABLE, command_type
from pleb_coordinator.cli import main
from pleb_coordinator.cli.audit import CHANGING
from pleb_coordinator.cli.parser import make_parser
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import RARE_SECONDS, Jobs
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Role
from tests.integration.steps_world import World


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path, units=4, quorum=4, versions=100)
    make_secret_file(Home(tmp_path).secret_file)
    (tmp_path / "coordinator.toml").write_text(config_text(CoordinatorConfig()))
    return found


@pytest.fixture
def run(world, capsys):
    def command(*words, home=world.home):
        code = main([*words, "--home", str(home), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return command


def rows(world, table, where="1"):
    with closing(sqlite3.connect(world.home / "store.sqlite")) as db:
        return db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]


def units(world):
    project = world.project
    with world.store.read() as tx:
        return tx.units.of_round(project.id, project.epoch, project.version, set(UnitState))


def test_a_round_goes_on_without_a_unit_that_was_cancelled(world, run):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    [manifest], _ = world.ask(trusted)
    [first] = [unit for unit in units(world) if unit.seed == manifest.unit.seed]
    others = [unit for unit in units(world) if unit != first]
    code, found = run("unit", "cancel", str(first.id), "--yes")
    assert (code, found) == (0, {"unit": first.id, "state": "cancelled"})
    world.answer(trusted, manifest)
    trusted.held.clear()
    world.run()
    [after] = [unit for unit in units(world) if unit.id == first.id]
    assert after.state is UnitState.CANCELLED, "a result that comes later changes nothing"
    while world.project.version < 1:
        world.work(trusted)
    with world.store.read() as tx:
        made = tx.versions.get(1, 0, 1)
    assert [entry.unit for entry in made.inputs] == [unit.id for unit in others]
    code, found = run("unit", "cancel", str(first.id), "--yes")
    assert code
    assert "is cancelled: only one that is not decided" in found["message"]
    code, found = run("unit", "cancel", "999999", "--yes")
    assert code
    assert "There is no unit 999999" in found["message"]


def test_a_round_that_has_enough_without_the_unit_is_over_after_the_grace_window(world, run):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    world.work(trusted, rounds=3)
    [last] = [unit for unit in units(world) if unit.state is UnitState.OPEN]
    code, _ = run("unit", "cancel", str(last.id), "--yes")
    assert code == 0
    world.run()
    assert world.project.version == 1
    assert rows(world, "rounds", "version = 0 AND quorum = 3 AND quorum_at IS NOT NULL")


def test_the_only_unit_of_a_round_stays(world, run):
    world.volunteer("trusted", role=Role.TRUSTED)
    *cancelled, last = units(world)
    for unit in cancelled:
        assert run("unit", "cancel", str(unit.id), "--yes")[0] == 0
    code, found = run("unit", "cancel", str(last.id), "--yes")
    assert code
    assert "only one of its round" in found["message"]


def test_a_host_is_deleted_once_its_results_are_settled(world, run):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    other = world.volunteer("other")
    while world.project.version < 1:
        world.work(other, trusted)
    name = other.key.fingerprint[:16]
    code, found = run("host", "delete", "tiny", name, "--yes")
    assert code
    assert "may still be compared" in found["message"]
    with world.store.write() as tx:
        tx._db.execute(
            "UPDATE hosts SET credit = 7, units_valid = 3 WHERE id = :id", id=world.row(other).id
        )
    other.held.clear()
    world.clock.now += 4000
    while world.project.version < LIMITS.version_lag + 3:
        world.work(trusted)
    code, found = run("host", "delete", "tiny", name, "--yes")
    assert (code, found["deleted"]) == (0, True)
    with pytest.raises(Refusal) as refused:
        world.ask(other)
    assert refused.value.code is RefusalCode.UNKNOWN_HOST
    with world.store.read() as tx:
        kept = {c.account: c for c in tx.views.contributors(1, 9)}
    assert [(c.credit, c.units_valid) for c in kept.values() if not c.hosts] == [(7, 3)]
    world.work(trusted)


def test_what_a_gone_host_has_in_hand_goes_to_others(world, run):
    gone, other = (world.volunteer(name) for name in ("gone", "other"))
    assert world.ask(gone)[0]
    name = gone.key.fingerprint[:16]
    code, found = run("host", "detach", "tiny", name)
    assert (code, found["units"]) == (0, 1)
    world.run()
    row = world.row(gone)
    with world.store.read() as tx:
        assert tx.assignments.in_hand(row.id) == []
    assert run("host", "detach", "tiny", name)[1]["units"] == 0
    gone.held.clear()
    assert world.ask(other)[0]
    assert world.ask(gone)[0], "it may come back"


def test_a_project_that_no_target_ends_cannot_be_extended(world, run):
    code, found = run("project", "extend", "tiny")
    assert code == 2
    assert "no target ends it" in found["message"]


def test_accounts_and_teams_have_their_credit(world, run):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 1:
        world.work(trusted)
    name = trusted.key.fingerprint[:16]
    assert run("host", "team", "tiny", name, "lab")[0] == 0
    code, [account] = run("account", "list", "tiny")
    assert code == 0
    assert (account["team"], account["verified"], account["hosts"]) == ("lab", 4, 1)
    assert account["credit"] > 0
    code, [team] = run("team", "list", "tiny")
    assert (code, team["team"], team["credit"]) == (0, "lab", account["credit"])


@pytest.mark.parametrize(
    "words",
    [
        ["unit", "cancel", "1"],
        ["host", "delete", "tiny", "x"],
        ["key", "delete", "x"],
        ["project", "delete", "tiny"],
    ],
)
def test_what_cannot_be_undone_is_asked_for_again(world, run, words, monkeypatch):
    code, found = run(*words)
    assert code == 2
    assert "or give --yes" in found["message"], "a program cannot be asked"
    word = "tiny" if words[0] == "project" else "yes"
    for typed, asked in ((word, False), ("y", True), ("", True)):
        terminal = io.StringIO(f"{typed}\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        code, found = run(*words)
        assert ("or give --yes" in found.get("message", "")) == asked, typed
    assert {words for words, entry in TABLE.items() if entry.final} == {
        "unit cancel",
        "host delete",
        "key delete",
        "project delete",
    }


def test_models_that_somebody_took_home_go_with_their_project(world, run):
    own = world.home / "models" / f"tiny-{16 * 'a'}.safetensors"
    of_another = world.home / "models" / f"tiny-2-{16 * 'a'}.safetensors"
    own.parent.mkdir(exist_ok=True)
    for path in (own, of_another):
        path.write_bytes(b"a model")
    assert run("project", "archive", "tiny")[0] == 0
    assert run("project", "delete", "tiny", "--yes")[0] == 0
    assert [path.name for path in own.parent.iterdir()] == [of_another.name]


def test_a_project_is_deleted_with_all_that_only_it_needs(world, run):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 3:
        world.work(trusted)
    world.publish(msgspec.structs.replace(world.metadata, project="other"))
    code, found = run("project", "delete", "tiny", "--yes")
    assert code
    assert "archive it first" in found["message"]
    assert run("project", "archive", "tiny")[0] == 0
    code, found = run("project", "delete", "tiny")
    assert code
    assert "give --yes" in found["message"], "a program cannot be asked"
    assert rows(world, "units")
    code, found = run("project", "delete", "tiny", "--yes")
    assert (code, found["deleted"]) == (0, True)

    with closing(sqlite3.connect(world.home / "store.sqlite")) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for table in tables:
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            if "project" in columns and table != "audit":
                left = db.execute(f"SELECT count(*) FROM {table} WHERE project = 1").fetchone()
                assert left == (0,), table
        for table in ("hosts", "deltas", "replies", "host_networks", "calibrations"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    jobs = Jobs(world.store, world.deps)
    for _ in range(3):
        jobs.run_due()
        world.clock.now += max(CLAIM_SECONDS, RARE_SECONDS) + 1
    with world.store.read() as tx:
        assert tx.projects.names() == ["other"]
        needed = tx.references.blobs()
    here = {path.name for path in (world.home / "blobs").glob("*/*")}
    assert here == needed, "the other project's blobs are the same, but for the versions"
    with pytest.raises(Refusal):
        world.ask(trusted)
    world.publish()
    world.run()
    assert world.project.version == 0, "the name is free again"
    assert world.project.id != 1
    again = world.volunteer("trusted again", role=Role.TRUSTED)
    while world.project.version < 1:
        world.work(again)


def test_who_did_what_is_written_down(world, run):
    world.volunteer("other")
    fingerprint = world.volunteer("bad").key.fingerprint
    name = fingerprint[:12]
    assert run("host", "ban", "tiny", name, "--reason", "because", "--days", "2")[0] == 0
    _, made = run("invite", "new", "--team", "lab", "--uses", "3")
    assert run("invite", "revoke", made["token"])[0] == 0
    assert run("host", "ban", "tiny", "nobody")[0], "what was refused has changed nothing"
    assert run("status")[0] == 0
    code, found = run("log", "--audit")
    assert code == 0
    assert [entry["command"] for entry in found] == ["host ban", "invite new", "invite revoke"]
    assert all(entry["who"] for entry in found)
    ban, new, revoked = found
    assert ban["project"] == "tiny"
    assert ban["arguments"] == {"host": fingerprint, "reason": "because", "days": 2.0}
    assert new["arguments"]["team"] == "lab"
    assert made["token"] not in json.dumps(found)
    _, invites = run("invite", "list")
    assert revoked["arguments"]["invite"] == new["arguments"]["invite"]
    assert revoked["arguments"]["invite"] in {invite["invite"] for invite in invites}
    _, of_project = run("log", "tiny", "--audit")
    assert [entry["command"] for entry in of_project] == ["host ban"]
    code, events = run("log", "tiny", "--limit", "3")
    assert code == 0
    assert len(events) == 3
    assert events[-1]["kind"] == "banned"


def test_an_invite_is_valid_until_a_day(world, run):
    code, _ = run("invite", "new", "--until", "2099-12-31")
    assert code == 0
    ends = [invite["expires_at"] for invite in run("invite", "list")[1]]
    assert max(ends) == pytest.approx(datetime(2100, 1, 1, tzinfo=UTC).timestamp(), abs=5)
    code, found = run("invite", "new", "--until", "2020-02-29")
    assert code == 2
    assert "a day to come" in found["message"]
    for wrong in ("2099-02-30", "soon", "9999-12-31"):
        with pytest.raises(SystemExit):
            run("invite", "new", "--until", wrong)


def test_old_entries_of_the_audit_log_go(world, run):
    assert run("invite", "new")[0] == 0
    with world.store.write() as tx:
        tx._db.execute("UPDATE audit SET at = 1.0")
        tx.audit.add(world.clock.now, "me", "host ban", "tiny", {})
    Jobs(world.store, world.deps).run_due()
    with world.store.read() as tx:
        assert [entry.command for entry in tx.audit.last("", 9)] == ["host ban"]


def test_every_command_either_changes_nothing_or_is_written_down():
    changing = {words for words, entry in TABLE.items() if entry.changes} | CHANGING
    reads = {words for words, entry in TABLE.items() if not entry.changes} - {"log --audit"}
    changing.discard("backup --again")  # an option
    here_alone = {"simulate", "model export", "login"}
    assert {" ".join(filter(None, words)) for words in all_commands()} == (
        changing | reads | here_alone
    )


def test_every_command_has_an_answer_that_travels():
    for words in TABLE:
        command = command_type(words)
        assert command.words == words
        msgspec.json.Decoder(command)
        msgspec.json.Decoder(command.answer_type())


def all_commands():
    """Yield (command, action) of the whole command line."""
    for name, parser in choices_of(make_parser()):
        actions = [action for action, _ in choices_of(parser)]
        yield from ((name, action) for action in actions or [None])


def choices_of(parser):
    for group in parser._subparsers._group_actions if parser._subparsers else []:
        yield from group.choices.items()
