"""The log that a coordinator signs holds each result that counted, in front of everybody."""

from __future__ import annotations

import asyncio

import msgspec

from pleb_coordinator.backups.mirror import files_for_mirror, sync_mirror
from pleb_coordinator.backups.mirror_target import FolderTarget
from pleb_coordinator.core.records import Kept, RestoreCause
from pleb_coordinator.steps.version_log import log_of, sign_head
from pleb_shared.protocol.messages import PayloadType, Role, Verdict
from pleb_shared.protocol.signing import open_envelope
from pleb_shared.protocol.version_log import LogHead, contains, read_log, result_leaf, taken_back
from tests.integration.http_world import http_world
from tests.integration.steps_world import World


def signed(world):
    """Return the verified entries of the world's log."""
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        lines = log_of(tx, project)
    key = world.metadata.delegation.online_key
    head = open_envelope(sign_head(world.deps, project, lines), PayloadType.LOG_HEAD, LogHead, key)
    return [entry for entry, _ in read_log(b"\n".join(lines), head)]


def leaves_by_version(world, entries):
    """Return the leaves of all good results of trained units, by the version they count for."""
    found: dict[int, list[bytes]] = {}
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        for entry in entries:
            row = tx.versions.get(project.id, entry.epoch, entry.number)
            for each in row.inputs:
                hosts = tx.hosts.of_unit(each.unit)
                for one in tx.assignments.of_unit(each.unit):
                    if one.verdict is Verdict.VALID:
                        leaf = result_leaf(one.nonce, hosts[one.host].fingerprint, one.digest)
                        found.setdefault(entry.number, []).append(leaf)
    return found


def test_the_log_has_every_result_that_counts_and_no_other(tmp_path):
    world = World(tmp_path, versions=6, new_host_units=2)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    people = [world.volunteer(f"person-{n}") for n in range(3)]
    world.work(*people, trusted, rounds=30)
    assert world.project.version >= 3
    number, entries = world.project.id, signed(world)
    expected = leaves_by_version(world, entries)
    assert any(len(leaves) > 4 for leaves in expected.values()), "one was confirmed by another"
    for entry in entries:
        if not entry.number:
            assert entry.results is None
            continue
        assert entry.results is not None
        blob = world.deps.blobs.get(entry.results.digest)
        assert len(blob) == entry.results.size
        listed = [blob[at : at + 32] for at in range(0, len(blob), 32)]
        assert listed == sorted(listed)
        # a copy that was confirmed after its version was made earns credit, but is not in it
        assert set(listed) <= set(expected[entry.number])
        with world.store.read() as tx:
            row = tx.versions.get(number, entry.epoch, entry.number)
            for each in row.inputs:
                one = tx.assignments.get(each.assignment)
                host = tx.hosts.get(one.host or 0)
                assert contains(blob, result_leaf(one.nonce, host.fingerprint, one.digest))


def test_a_restored_version_takes_back_what_came_after_it(tmp_path):
    world = World(tmp_path, versions=20)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 3:
        world.work(trusted)
    with world.store.write() as tx:
        tx.projects.set_restoring(world.project.id, 1, RestoreCause.HOLDOUT)
    world.run()
    entries = signed(world)
    assert entries[-1].restores == 1
    assert entries[-1].results is None
    assert taken_back(entries) == {(0, 2), (0, 3)}


def test_leaves_stay_when_a_version_is_only_listed(tmp_path):
    world = World(tmp_path, versions=40)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 3:
        world.work(trusted)
    project = world.project
    with world.store.write() as tx:
        row = tx.versions.get(project.id, 0, 1)
        assert row.leaves is not None
        tx.versions.keep_less(
            msgspec.structs.replace(
                row, kept=Kept.LISTED, difference="", outer_state="", inputs=(), source=None
            )
        )
        assert tx.references.needed(row.leaves.digest)
        assert tx.versions.get(project.id, 0, 1).leaves == row.leaves
    assert signed(world)[1].results == row.leaves


def test_a_mirror_has_the_log_and_all_leaves(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    world = World(home, versions=40)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 12:
        world.work(trusted)
    target = FolderTarget(tmp_path / "mirror")
    project = world.project
    with world.store.read() as tx:
        wanted = files_for_mirror(tx, world.deps, project)
    sync_mirror(world.deps.blobs, target, wanted)
    envelope = target.read("projects/tiny/log-head")
    lines = target.read("projects/tiny/log-entries")
    assert envelope is not None
    assert lines is not None
    head = open_envelope(
        envelope, PayloadType.LOG_HEAD, LogHead, world.metadata.delegation.online_key
    )
    entries = read_log(lines, head)
    assert len(entries) == 13
    for entry, _ in entries[1:]:
        assert entry.results is not None
        assert target.read(f"blobs/{entry.results.digest}") is not None


def test_a_coordinator_hands_it_out(tmp_path):
    async def asked():
        async with http_world(tmp_path) as http:
            trusted = http.world.volunteer("trusted", role=Role.TRUSTED)
            while http.world.project.version < 2:
                http.world.work(trusted)
            head = await http.client.get("/projects/tiny/log-head")
            entries = await http.client.get("/projects/tiny/log-entries")
            missing = await http.client.get("/projects/other/log-head")
            key = http.world.metadata.delegation.online_key
        return head, entries, missing, key

    head, entries, missing, key = asyncio.run(asked())
    found = open_envelope(head.content, PayloadType.LOG_HEAD, LogHead, key)
    assert [one.number for one, _ in read_log(entries.content, found)] == [0, 1, 2]
    assert missing.status_code == 404
