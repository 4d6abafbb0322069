"""Backups of a home that is being written to, and homes that are made of them."""

from __future__ import annotations

import shutil
import sqlite3
import threading

import msgspec
import numpy as np
import pytest

from pleb_agent.core.trust import Memory, OlderMetadataError, TrustedProject
from pleb_coordinator.aggregation.recompute import recompute
from pleb_coordinator.backups.contents import backups_in, read_backup
from pleb_coordinator.backups.make import make_backup, prune
from pleb_coordinator.backups.restore import restore, verify
from pleb_coordinator.home.config import CoordinatorConfig, config_text
from pleb_coordinator.home.keys import OnlineKeys
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps import deps_of
from pleb_coordinator.steps.publish import hand_in
from pleb_coordinator.steps.published import examine, open_metadata
from pleb_coordinator.steps.serve import Asked, serve
from pleb_coordinator.steps.upload import (
    append_part,
    check_upload,
    find_upload,
    finish_upload,
    upload_format,
)
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import PayloadType, ReceiptOutcome, Role
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.tensors.packing import pack
from pleb_system.lock import HomeInUseError, hold_lock
from tests.integration.steps_world import World, report

BACKUPS = 6


class Operator:
    """A coordinator's home, its backups, and an agent that has seen everything."""

    def __init__(self, folder, versions=1000):
        self.folder = folder
        self.home = Home(folder / "home")
        self.home.path.mkdir()
        self.world = World(self.home.path, quorum=2, units=2, versions=versions)
        self.home.config_file.write_text(config_text(CoordinatorConfig()))
        self.home.secret_file.write_bytes(self.world.deps.secret)
        self.to = folder / "backups"
        self.keys = self.to / "keys"
        self.trusted = self.world.volunteer("trusted", role=Role.TRUSTED)
        fingerprint = self.trusted.key.fingerprint
        self.agent = TrustedProject("tiny", self.world.root.fingerprint, fingerprint, Memory())

    def permit(self):
        """Renew the permission, which lets the coordinator go back."""
        before = self.world.metadata
        self.world.metadata = msgspec.structs.replace(
            before,
            number=before.number + 1,
            delegation=msgspec.structs.replace(before.delegation, may_restore=True),
        )
        self.world.publish(self.world.metadata, invite=False)

    def look(self):
        """The agent asks, and accepts what it is told or raises why not."""
        world = self.world
        with world.store.read() as tx:
            project = tx.projects.find("tiny")
            envelope = tx.projects.envelope(project.id, project.metadata_number)
        self.agent.update_metadata(envelope, world.clock.now)
        request = world.request(self.trusted, 0, [])
        asked = Asked(request, digest_of(strict_json.encode(request)), [], 1, "net")
        with world.store.write() as tx:
            answered = serve(tx, world.deps, asked)
        return self.agent.work_reply(
            answered.reply,
            world.clock.now,
            sequence=request.sequence,
            reported=[],
            most_units=0,
            is_spent=lambda _: False,
        )

    def train(self, versions):
        wanted = self.world.project.version + versions
        for _ in range(20 * versions):
            if self.world.project.version >= wanted:
                return
            self.world.work(self.trusted)
        message = f"stuck at version {self.world.project.version}"
        raise AssertionError(message)

    def upload(self):
        """Make a result whose delta is a file of its own."""
        world = self.world
        [manifest, *_], _ = world.ask(self.trusted)
        data = world.train(self.trusted, manifest)
        packed = pack(data)
        size = len(packed)
        result = DeltaResult(digest=digest_of(data), size=size, loss_first=2.0, loss_last=1.0)
        self.trusted.held = [m for m in self.trusted.held if m is not manifest]
        receipts, *_ = world.exchange(self.trusted, 0, [report(manifest, result)], [])
        token = receipts[0].upload
        assert token is not None
        with world.store.read() as tx:
            upload = find_upload(tx, world.deps, token)
            encoding = upload_format(tx, upload)
        append_part(world.deps, upload, 0, packed)
        check_upload(world.deps, upload, encoding)
        with world.store.write() as tx:
            finish_upload(tx, world.deps, upload)
        world.run()

    def back_up(self):
        self.world.clock.now += 1
        return make_backup(self.home, self.to, self.keys, self.world.clock.now)

    def restore(self, folder, *, lose=True):
        """Lose the disk, restore, and go on with what the backup has."""
        self.world.store.close()
        if lose and self.home.path.exists():
            shutil.rmtree(self.home.path)
        self.world.clock.now += 60
        found = restore(self.home, folder, self.keys, self.world.clock.now)
        self.world.store = Store(self.home.store_file)
        self.world.deps = deps_of(self.home, self.world.clock, CoordinatorConfig())
        self.trusted.held.clear()
        return found

    def verify_versions(self):
        with self.world.store.read() as tx:

            def delta(assignment):
                stored = tx.assignments.delta(assignment)
                assert stored is not None
                return self.world.deps.blobs.delta(stored)

            project = tx.projects.find("tiny")
            history = tx.versions.history(project.id, 0, after=-1, limit=1000)
            made = recompute(
                history,
                lambda number: tx.projects.metadata_at(project.id, number),
                self.world.deps.blobs.get,
                delta,
            )
            assert all(version.matches for version in made)
        return len(history)


@pytest.fixture
def operator(tmp_path):
    operator = Operator(tmp_path)
    yield operator
    operator.world.store.close()


def test_every_backup_of_a_home_under_load_restores_and_is_followed(operator):
    back_up_under_load_and_restore_all(operator, BACKUPS)


def back_up_under_load_and_restore_all(operator, count):
    """The oldest too; and each restored home goes on to new versions."""
    operator.permit()
    operator.upload()
    operator.look()
    made, done = [], threading.Event()

    def keep_backing_up():
        try:
            for number in range(count):
                now = operator.world.clock.now + number
                made.append(make_backup(operator.home, operator.to, operator.keys, now))
        finally:
            done.set()

    backing_up = threading.Thread(target=keep_backing_up)
    backing_up.start()
    while not done.is_set():
        operator.train(1)
    backing_up.join()
    operator.world.clock.now += count
    operator.train(2)
    newest = operator.look().latest_version
    assert len(made) == count
    versions = [read_backup(folder).projects[0].version for folder in made]
    assert versions == sorted(versions)
    assert versions[-1] < newest
    for folder, version in zip(made, versions, strict=True):
        assert verify(folder).store
        [found] = operator.restore(folder)
        assert (found.version, found.obstacle) == (version, "")
        assert operator.look().latest_version == version
        assert operator.verify_versions() == version + 1
        operator.train(1)
        assert operator.look().latest_version == version + 1


def test_a_unit_in_hand_at_the_backup_is_not_given_again_and_taken_late(operator):
    """A host that has reported it since would refuse to be given the same assignment again."""
    operator.permit()
    world, host = operator.world, operator.trusted
    [manifest], _ = world.ask(host)
    operator.restore(operator.back_up())
    world.run()
    assert world.row(host).recent == 0, "nobody is to blame"
    [again], _ = world.ask(host)
    assert again.assignment != manifest.assignment
    host.held = [manifest, again]  # this one has not reported it
    assert world.answer(host, manifest).outcome is ReceiptOutcome.STORED


def test_a_copy_that_is_put_back_without_restore_is_refused(operator):
    """What `restore` adds to a copy is the time that agents are told."""
    operator.permit()
    operator.train(1)
    folder = operator.back_up()
    operator.train(2)
    operator.look()
    operator.world.store.close()
    shutil.copyfile(folder / "store.sqlite", operator.home.store_file)
    for left in operator.home.path.glob("store.sqlite-*"):
        left.unlink()
    operator.world.store = Store(operator.home.store_file)
    with pytest.raises(TrustError, match="went back from version 3 to 1"):
        operator.look()


def test_a_project_that_does_not_permit_it_is_named(operator):
    operator.train(1)
    folder = operator.back_up()
    operator.train(1)
    operator.look()
    [found] = operator.restore(folder)
    assert "does not permit to go back" in found.obstacle
    with pytest.raises(TrustError, match="has not permitted"):
        operator.look()


def test_metadata_newer_than_the_backup_comes_back_from_a_host(operator):
    operator.permit()
    folder = operator.back_up()
    operator.permit()
    with operator.world.store.read() as tx:
        lost = tx.projects.envelope(1, 3)
    operator.train(1)
    operator.look()
    operator.restore(folder)
    with pytest.raises(OlderMetadataError):
        operator.look()
    world = operator.world
    publication = open_metadata(lost)
    findings = examine(world.deps, publication)
    for _ in range(2):  # the second host that brings it changes nothing
        with world.store.write() as tx:
            hand_in(tx, world.deps, publication, findings)
    assert world.project.metadata_number == 3
    assert operator.look().latest_version == 0


def test_metadata_are_taken_only_with_their_files_and_from_the_projects_root(operator):
    operator.permit()
    world, stranger = operator.world, SigningKey.generate()
    nowhere = msgspec.structs.replace(world.metadata.training_graph, digest="0" * 64)
    incomplete = msgspec.structs.replace(world.metadata, number=9, epoch=1, training_graph=nowhere)
    strange = msgspec.structs.replace(world.metadata, number=9, root_key=stranger.public)
    for metadata, key, code in (
        (incomplete, world.root, RefusalCode.UNKNOWN_BLOB),
        (strange, stranger, RefusalCode.BAD_SIGNATURE),
    ):
        envelope = sign_payload(strict_json.encode(metadata), PayloadType.METADATA, key)
        publication = open_metadata(envelope)
        findings = examine(world.deps, publication)
        with pytest.raises(Refusal) as caught, world.store.write() as tx:
            hand_in(tx, world.deps, publication, findings)
        assert caught.value.code == code
    assert world.project.metadata_number == 2


@pytest.mark.parametrize("victim", ["store.sqlite", "blobs", "deltas", "coordinator.toml"])
def test_a_damaged_backup_is_refused_before_anything_is_written(operator, victim):
    operator.permit()
    operator.upload()
    folder = operator.back_up()
    path = folder / victim
    file = path if path.is_file() else min(path.glob("*/*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # it may be a link to the home's own
    file.write_bytes(content if victim != "coordinator.toml" else b"version = \n")
    shutil.rmtree(operator.home.path)
    with pytest.raises(InputError, match=r"damaged|not TOML"):
        restore(operator.home, folder, operator.keys, operator.world.clock.now)
    assert not operator.home.path.exists()
    assert not list(operator.folder.glob("*.restoring")), "nothing is left beside it"


def test_a_missing_file_is_named(operator):
    folder = operator.back_up()
    file = min((folder / "blobs").glob("*/*"))
    file.unlink()
    with pytest.raises(InputError, match=file.name):
        verify(folder)


def test_nothing_is_overwritten_and_keys_must_be_there(operator):
    folder = operator.back_up()
    with pytest.raises(InputError, match="is not empty"):
        restore(operator.home, folder, operator.keys, operator.world.clock.now)
    shutil.rmtree(operator.home.path)
    with pytest.raises(InputError, match="--keys"):
        restore(operator.home, folder, operator.folder / "nowhere", operator.world.clock.now)
    assert not operator.home.path.exists()


def test_keys_are_kept_apart_and_private(operator):
    folder = operator.back_up()
    assert not list(folder.rglob("*.key"))
    assert not (folder / "secret").exists()
    for place in ("keys/online.key", "secret"):
        saved = operator.keys / place
        assert saved.read_bytes() == (operator.home.path / place).read_bytes()
        assert saved.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "store.sqlite").stat().st_mode & 0o077 == 0
    operator.restore(folder)
    assert OnlineKeys(operator.home).newest().public == operator.world.online.public


def test_files_are_shared_between_backups_on_one_disk(operator):
    operator.upload()
    first = operator.back_up()
    second = operator.back_up()
    file = next(iter((first / "blobs").glob("*/*")))
    assert (second / file.relative_to(first)).samefile(file)


def test_only_the_newest_are_kept(operator):
    made = [operator.back_up() for _ in range(4)]
    assert prune(operator.to, 2) == made[:2]
    assert backups_in(operator.to) == made[2:]
    verify(made[2])


def test_what_a_killed_backup_left_is_removed_and_never_taken_for_one(operator):
    left = operator.to / ".2026-01-01T00-00-00Z.part"
    left.mkdir(parents=True)
    (left / "store.sqlite").write_bytes(b"half")
    made = operator.back_up()
    assert backups_in(operator.to) == [made]
    assert not left.exists()


def test_a_backup_inside_of_the_home_and_two_at_once_are_refused(operator):
    with pytest.raises(InputError, match="inside the home"):
        make_backup(operator.home, operator.home.path / "backups", operator.keys, 1.0)
    operator.to.mkdir()
    with hold_lock(operator.to / ".lock", holder="x", remedy="x"), pytest.raises(HomeInUseError):
        operator.back_up()


def test_a_backup_of_a_full_disk_leaves_nothing(operator, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "blobs/x")

    monkeypatch.setattr("pleb_coordinator.backups.make.bring_files", full)
    with pytest.raises(OSError, match="No space"):
        operator.back_up()
    assert backups_in(operator.to) == []
    assert not list(operator.to.glob(".*.part"))


def test_restored_twice_from_the_same_backup_agents_follow_twice(operator):
    operator.permit()
    folder = operator.back_up()
    operator.train(2)
    operator.look()
    for _ in range(2):
        operator.restore(folder)
        assert operator.look().latest_version == 0
        operator.train(1)
        operator.look()


def test_a_copied_store_is_sound_while_others_write(operator):
    """The oldest fault: a plain copy of a running store was corrupt in half of the tries."""
    stop = threading.Event()

    def write():
        with sqlite3.connect(operator.home.store_file, timeout=30) as db:
            numbers = np.random.default_rng(0)
            while not stop.is_set():
                db.execute("UPDATE hosts SET agent = ?", (numbers.bytes(2000).hex(),))
                db.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            verify(operator.back_up())
    finally:
        stop.set()
        writer.join()
