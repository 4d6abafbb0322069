"""Rows that are not needed any more go; what made the model, and credit, stays."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.status import read_status
from pleb_coordinator.core.reputation import standing_of
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.home.config import Retention
from pleb_coordinator.jobs.loop import RARE_SECONDS, RETENTION_SECONDS, Jobs
from pleb_coordinator.steps import retain
from pleb_coordinator.store.background import CLAIM_SECONDS
from pleb_shared.errors import Refusal
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Role
from tests.integration.steps_world import Volunteer, World

DAY = 86_400.0


class Trained(World):
    """A world with a trusted host, and a volunteer who took part in its versions."""

    trusted: Volunteer
    anna: Volunteer


def trained(tmp_path, versions, **options):
    world = Trained(tmp_path, units=2, quorum=2, versions=100, **options)
    world.trusted = world.volunteer("trusted", role=Role.TRUSTED)
    world.anna = world.volunteer("anna")
    advance(world, versions, world.anna, world.trusted)
    return world


def advance(world, version, *hosts):
    """Let hosts work until there is that version."""
    for _ in range(100):
        if world.project.version >= version:
            return
        world.work(*hosts)
        world.clock.now += 100
    assert world.project.version >= version


def settle(world):
    """Let the trusted host work until no other can have a result that waits for its verdict."""
    advance(world, world.project.version + LIMITS.version_lag + 1, world.trusted)


def count(world, table, where="1"):
    with world.store.read() as tx:
        return tx.views._value(f"SELECT count(*) FROM {table} WHERE {where}")


def later(world, days):
    """Let time go by, with the background process at work all the time."""
    world.clock.now += days * DAY
    jobs = Jobs(world.store, world.deps)
    for _ in range(4):
        jobs.run_due()
        world.clock.now += RARE_SECONDS + CLAIM_SECONDS


def shown_units(world):
    with world.store.read() as tx:
        project, links = tx.projects.find("tiny"), LinkBase("http://127.0.0.1")
        return read_status(tx, project, links, world.deps.numbers, world.clock.now).units


def log_of(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        rows = tx.versions.history(project.id, project.epoch, after=-1, limit=100)
        return rows, {
            i.assignment: tx.assignments.delta(i.assignment) for r in rows for i in r.inputs
        }


def test_old_rounds_keep_what_made_the_model_and_nothing_else(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag + 3)
    before = log_of(world)
    later(world, 1)
    assert count(world, "rounds", "retired_at IS NOT NULL") == 0, "it can still be explained"
    copies, events = count(world, "assignments"), count(world, "events")
    later(world, 31)
    retired = count(world, "rounds", "retired_at IS NOT NULL")
    assert retired >= 2
    assert log_of(world) == before
    assert count(world, "events") < events / 2
    assert count(world, "assignments") <= copies
    for version in range(retired):
        where = f"epoch = 0 AND version = {version}"
        assert count(world, "shares", where) == 0
        kept = f"unit IN (SELECT id FROM units WHERE {where} AND kind <> 'calibrate')"
        canonical = f"{where} AND canonical IS NOT NULL AND kind <> 'calibrate'"
        assert count(world, "assignments", kept) == count(world, "units", canonical)
    advance(world, LIMITS.version_lag + 5, world.anna, world.trusted)


def test_rounds_that_close_faster_than_batches_go_are_not_left_behind(tmp_path):
    rounds = 11
    world = trained(tmp_path, LIMITS.version_lag + rounds)
    world.clock.now += 31 * DAY
    Jobs(world.store, world.deps).run_due()
    assert count(world, "rounds", "retired_at IS NOT NULL") == 8, "a batch"
    world.clock.now += RETENTION_SECONDS
    Jobs(world.store, world.deps).run_due()
    assert count(world, "rounds", "retired_at IS NOT NULL") == rounds


def test_a_round_with_more_copies_than_a_batch_takes_several(tmp_path, monkeypatch):
    monkeypatch.setattr(retain, "_ROWS", 1)
    world = trained(tmp_path, LIMITS.version_lag + 4, audit_rate=1.0)
    world.clock.now += 31 * DAY
    jobs = Jobs(world.store, world.deps)
    jobs.run_due()
    swept = count(world, "rounds", "swept_at IS NOT NULL")
    retired = count(world, "rounds", "retired_at IS NOT NULL")
    assert retired < swept
    jobs.retain()
    assert count(world, "rounds", "retired_at IS NOT NULL") == swept


def test_a_host_that_has_gone_leaves_its_credit_to_its_account(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag + 3)
    idle = world.volunteer("idle")
    with world.store.write() as tx:
        tx.hosts.set_team(world.project.id, world.row(idle).account, "lab")
        tx.hosts.set_team(world.project.id, world.row(world.anna).account, "household")
    earned = world.row(world.anna)
    assert earned.units_valid
    with world.store.read() as tx:
        totals = tx.views.totals(earned.project, 3)
    settle(world)
    later(world, 15)
    with pytest.raises(Refusal):
        world.row(idle)
    assert world.row(world.anna).credit == earned.credit
    later(world, 180)
    with pytest.raises(Refusal):
        world.row(world.anna)
    assert world.row(world.trusted).trusted, "the operator's own stay"
    with world.store.read() as tx:
        found = {c.account: c for c in tx.views.contributors(earned.project, 9)}
        after = tx.views.totals(earned.project, 3)
    kept = found[earned.account]
    assert (kept.hosts, kept.credit, kept.units_valid) == (0, earned.credit, earned.units_valid)
    assert after.verified >= totals.verified
    assert (after.hosts, after.accounts) == (1, 1)

    again = world.volunteer("anna again", account="anna")
    assert world.row(again).team == "household", "so it cannot confirm the others of its team"
    assert world.row(world.volunteer("idle again", account="idle")).team == "lab"
    advance(world, world.project.version + 2, again, world.trusted)
    with world.store.read() as tx:
        found = {c.account: c for c in tx.views.contributors(earned.project, 9)}
    assert found[earned.account].credit >= earned.credit, "the account comes back"


def test_what_a_host_did_is_shown_when_it_has_gone(tmp_path):
    world = trained(tmp_path, 2)
    row = world.row(world.anna)
    with world.store.write() as tx:
        tx.retention.remove_hosts(row.project, [row.id])
    names = {result.name for unit in shown_units(world) for result in unit.results}
    assert "a PC that has left" in names


def test_no_host_goes_while_a_result_of_it_may_wait_for_a_verdict(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag - 1)
    world.volunteer("idle")
    hosts = count(world, "hosts")
    later(world, 400)
    assert count(world, "hosts") == hosts


def test_a_case_that_waits_for_a_trusted_host_stays_whole(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag + 3)
    row = world.row(world.anna)
    with world.store.write() as tx:
        [case, *_] = tx.units.of_round(row.project, 0, 1, set(UnitState))
        suspended = msgspec.structs.replace(standing_of(row), suspended_by=case.id, proven=False)
        tx.hosts.set_standing(row.id, suspended)
    settle(world)
    later(world, 400)
    assert world.row(world.anna).suspended_by == case.id
    assert count(world, "rounds", "version = 1 AND retired_at IS NULL") == 1
    assert count(world, "rounds", "version <> 1 AND retired_at IS NOT NULL") >= 2


def test_a_banned_host_stays_banned(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag + 3)
    row = world.row(world.anna)
    with world.store.write() as tx:
        banned = msgspec.structs.replace(
            standing_of(row), banned_until=world.clock.now + 1000 * DAY
        )
        tx.hosts.set_standing(row.id, banned)
    settle(world)
    later(world, 400)
    assert world.row(world.anna).banned_until > world.clock.now


def test_classes_without_members_go_with_their_bytes(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag + 3)
    world.volunteer("other", drift=0.02)
    assert count(world, "classes") == 2
    settle(world)
    later(world, 15)
    assert count(world, "classes") == 1
    assert count(world, "class_distances") == 0
    calibrations = "unit IN (SELECT id FROM units WHERE kind = 'calibrate')"
    assert count(world, "assignments", calibrations) == 1, "the one whose bytes the class keeps"
    assert count(world, "deltas d JOIN assignments a ON a.id = d.assignment", calibrations) == 1


def test_nothing_goes_if_the_operator_says_so(tmp_path):
    world = trained(tmp_path, LIMITS.version_lag + 3)
    world.deps = dataclasses.replace(world.deps, retention=Retention(0, 0, 0))
    tables = ("assignments", "events", "hosts", "classes", "calibrations", "shares")
    rows = {table: count(world, table) for table in tables}
    world.clock.now += 1000 * DAY
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        assert retain.find_events(tx, world.deps, None) is None
        for find in (
            retain.find_rounds,
            retain.find_hosts,
            retain.find_runtimes,
            retain.find_classes,
            retain.find_calibrations,
        ):
            assert find(tx, world.deps, project) is None, find
    assert {table: count(world, table) for table in tables} == rows
