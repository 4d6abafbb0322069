"""What people look at stays quick with thousands of hosts and versions."""

from __future__ import annotations

import json

import msgspec
import pytest

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.status import MOST_POINTS, read_status
from pleb_coordinator.cli import main
from pleb_coordinator.core.keeping import curve_step
from pleb_coordinator.core.records import Evaluation, Kept
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import COUNT_SECONDS, Jobs
from pleb_shared.protocol.messages import Role
from tests.integration.steps_world import World

MANY = 1100


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path, units=2, quorum=2, versions=100_000)
    make_secret_file(Home(tmp_path).secret_file)
    (tmp_path / "coordinator.toml").write_text(config_text(CoordinatorConfig()))
    return found


def status(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        links = LinkBase("http://127.0.0.1")
        return read_status(tx, project, links, world.deps.numbers, world.clock.now)


def add_hosts(world, number):
    """Add copies of the newest host, each with an account of its own."""
    with world.store.write() as tx:
        columns = [row[1] for row in tx._db.execute("PRAGMA table_info(hosts)") if row[1] != "id"]
        values = {
            "fingerprint": "printf('%064x', n.i)",
            "account": "printf('account %d', n.i)",
            "display_name": "printf('PC %d', n.i)",
            "credit": "1000000.0 + n.i",
            "units_valid": "1",
        }
        chosen = ", ".join(values.get(name, name) for name in columns)
        tx._db.execute(
            f"INSERT INTO hosts ({', '.join(columns)}) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number) "
            f"SELECT {chosen} FROM n, (SELECT * FROM hosts ORDER BY id DESC LIMIT 1)",
            number=number,
        )


def ban_all(world):
    with world.store.write() as tx:
        tx._db.execute("UPDATE hosts SET bans = bans + 1, credit = credit * 2")


def count_fleet(world):
    world.clock.now += COUNT_SECONDS + 1
    Jobs(world.store, world.deps).run_due()


def test_a_small_fleet_is_always_shown_as_it_is(world):
    world.volunteer("one")
    count_fleet(world)
    before = status(world).counts.refused
    ban_all(world)
    assert status(world).counts.refused > before


def test_a_large_fleet_is_shown_as_it_was_a_moment_ago(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    one = world.volunteer("one")
    add_hosts(world, MANY)
    with world.store.write() as tx:
        host = tx.hosts.find_of("tiny", one.key.fingerprint)
        tx._db.execute("UPDATE hosts SET team = 'club', units_valid = 3 WHERE id = :id", id=host.id)
    live = status(world)
    count_fleet(world)
    stored = status(world)
    assert [(team.team, team.accounts, team.verified) for team in live.teams] == [("club", 1, 3)]
    assert stored.teams == live.teams
    assert stored.counts == live.counts
    assert stored.contributors == live.contributors
    assert stored.contributors[0].credit == 1_000_000 + MANY
    ban_all(world)
    assert status(world).counts == stored.counts
    world.ask(trusted)
    assert status(world).counts.in_flight == stored.counts.in_flight + 1
    world.clock.now += 121
    old = status(world)
    assert old.counts.refused > stored.counts.refused, "a background process that stands still"
    assert old.contributors[0].credit == 2 * stored.contributors[0].credit
    count_fleet(world)
    assert status(world).counts.refused == old.counts.refused


def test_hosts_are_found_by_the_beginning_of_their_key_or_their_name(world, capsys):
    world.volunteer("one")
    add_hosts(world, 300)

    def run(*words):
        code = main([*words, "--home", str(world.home), "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, found = run("host", "list", "tiny")
    assert (code, len(found)) == (0, 200)
    assert len(run("host", "list", "tiny", "--limit", "1000")[1]) == 301
    key = f"{7:064x}"
    assert run("host", "show", "tiny", key)[1]["host"] == key
    assert run("host", "show", "tiny", "PC 7")[1]["host"] == key
    for several in ("0", ""):
        code, found = run("host", "show", "tiny", several)
        assert code
        assert "matches several hosts" in found["message"]
    code, found = run("host", "show", "tiny", "%")
    assert code
    assert "matches no host" in found["message"]
    assert main(["host", "list", "tiny", "--home", str(world.home)]) == 0
    assert "200 of 301 hosts" in capsys.readouterr().out


def test_long_histories_are_thinned_and_keep_their_end_and_the_best(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 2:
        world.work(trusted)
    last, best = 4 * MOST_POINTS + 3, 77
    with world.store.write() as tx:
        row = tx.versions.get(1, 0, 2)
        for number in range(3, last + 1):
            kept = Kept.LISTED if number < last - 50 and number != best else Kept.EXACT
            tx.versions.add(msgspec.structs.replace(row, number=number, kept=kept))
        for number in range(last + 1):
            loss = 0.1 if number == best else 5 - number / last
            tx.projects.add_evaluation(Evaluation(1, 0, number, 1, {"loss": loss}, 8, 1.0))
        assert tx.projects.advance(1, 0, 2, last)
    shown = status(world)
    assert MOST_POINTS / 2 < len(shown.series) <= MOST_POINTS + 1
    assert (shown.series[0].version, shown.series[-1].version) == (0, last)
    assert shown.series[-1].metrics == shown.metrics == {"loss": 4.0}
    with world.store.write() as tx:
        tx.projects.thin_evaluations(1, 0, before=last, step=curve_step(last))
        left = [found.version for found in tx.projects.evaluations(1, 0)]
    assert len(left) < 1100
    assert {0, best, last} < set(left)
    assert set(range(last - 50, last)) < set(left), "recent ones show whether it became worse"
    after = status(world)
    assert after.best_version == shown.best_version == best
    assert after.metrics == shown.metrics
