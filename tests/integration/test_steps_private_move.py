"""A private project goes on at another coordinator, with keys that only this one can open."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pleb_coordinator.steps.access import (
    brought_keys,
    keyring_of,
    newest_key,
    remove_member,
)
from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import answer_question, publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_shared.errors import PlebError, Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import History, PublishQuestion, Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.sealing import (
    Box,
    ProjectKey,
    Reading,
    put_in_box,
    seal,
    seal_mark,
    write_reading,
)
from tests.integration.moving_world import THERE, NewCoordinator, brought, moved_to
from tests.integration.private_world import PrivateWorld


@pytest.fixture
def world(tmp_path):
    home = tmp_path / "old"
    home.mkdir()
    world = PrivateWorld(home)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 3:
        world.work(trusted)
    return world


@pytest.fixture
def there(tmp_path, world):
    """Another coordinator, with a secret of its own, and all of the project's blobs."""
    home = tmp_path / "new"
    home.mkdir()
    there = NewCoordinator(home)
    there.deps = replace(there.deps, secret=b"t" * 32)
    there.root = world.root
    with world.store.read() as tx:
        for digest in tx.references.blobs():
            there.deps.blobs.put(world.deps.blobs.get(digest))
    return there


def keys_in_box(world, there, keys=None):
    """Return the old coordinator's keys as the researcher seals them for the new one."""
    with there.store.write() as tx:
        invite = new_invite(tx, there.deps, Role.PUBLISHER, lifetime_seconds=60)
    now = int(there.clock.now)
    question = PublishQuestion(
        protocols=[1],
        project="tiny",
        invite=invite,
        root_key=world.root.public,
        issued_at=now,
        expires_at=now + 60,
        seal_to=Box().public,
    )
    with there.store.read() as tx:
        answer = answer_question(tx, there.deps, question)
    assert answer.seal_to is not None
    found = keyring_of(world.deps, world.project).values() if keys is None else keys
    data = write_reading(Reading.of("", found))
    return put_in_box(data, answer.seal_to, world.root.fingerprint)


def move(there, world, box):
    key = newest_key(world.deps, world.project)
    blobs = [seal(b"\n".join(lines), key) for lines in brought(world)]
    for data in blobs:
        there.deps.blobs.put(data)
    with there.store.write() as tx:
        token = new_invite(tx, there.deps, Role.PUBLISHER, lifetime_seconds=60)
    metadata = moved_to(there, world)
    opened = open_publication(there.envelope(metadata, invite=token, key=there.root))
    assert opened.request is not None
    versions, entries, envelopes = map(blob_of, blobs)
    history = History(versions=versions, entries=entries, metadata=envelopes)
    opened = replace(
        opened, request=msgspec.structs.replace(opened.request, history=history, keys=box)
    )
    findings = examine(there.deps, opened)
    with there.store.write() as tx:
        publish(tx, there.deps, opened, findings, THERE)
    there.is_ready = True
    there.run()


def test_it_goes_on_and_what_is_made_has_a_key_of_its_own(world, there):
    old = world.project
    move(there, world, keys_in_box(world, there))
    project = there.project
    assert (project.version, project.keys[:-1]) == (old.version, old.keys)
    own = newest_key(there.deps, project)
    assert own.id not in keyring_of(world.deps, old)
    assert set(keyring_of(world.deps, old)) < set(keyring_of(there.deps, project))
    assert seal_mark(project.brought_keys) is not None
    with pytest.raises(PlebError):
        brought_keys(replace(there.deps, secret=b"other" * 7), project)
    trusted = there.volunteer("umpire", role=Role.TRUSTED)
    there.work(trusted, rounds=8)
    project = there.project
    assert project.version > old.version
    with there.store.read() as tx:
        made = tx.versions.get(project.id, project.epoch, project.version)
    assert seal_mark(there.deps.blobs.get(made.difference)) == (own.number, own.id)


def test_somebody_can_be_removed_and_the_metadata_renewed_there(world, there):
    move(there, world, keys_in_box(world, there))
    with there.store.write() as tx:
        remove_member(tx, there.deps, tx.projects.find("tiny"), "nobody")
    project = there.project
    assert len(project.keys) == len(world.project.keys) + 2
    renewed = msgspec.structs.replace(project.metadata, number=project.metadata_number + 1)
    opened = open_publication(there.envelope(renewed, invite=None, key=there.root))
    findings = examine(there.deps, opened, None, brought_keys(there.deps, project))
    with there.store.write() as tx:
        publish(tx, there.deps, opened, findings, THERE)
    assert there.project.metadata_number == renewed.number
    assert set(there.project.keys) == set(project.keys)


def no_keys(world, there):
    return None


def for_another(world, there):
    data = write_reading(Reading.of("", keyring_of(world.deps, world.project).values()))
    return put_in_box(data, Box().public, world.root.fingerprint)


def of_nothing(world, there):
    return keys_in_box(world, there, [])


def others(world, there):
    return keys_in_box(world, there, [ProjectKey(7, b"k" * 32)])


def forged(world, there):
    [key] = keyring_of(world.deps, world.project).values()
    return keys_in_box(world, there, [ProjectKey(key.number, b"k" * 32)])


def too_many(world, there):
    numbers = range(1, LIMITS.project_keys)
    keys = [ProjectKey(number, bytes([number % 256, number // 256]) * 16) for number in numbers]
    return keys_in_box(world, there, [*keyring_of(world.deps, world.project).values(), *keys])


def the_last_number(world, there):
    last = ProjectKey(2**53, b"k" * 32)
    return keys_in_box(world, there, [*keyring_of(world.deps, world.project).values(), last])


@pytest.mark.parametrize(
    "forge", [no_keys, for_another, of_nothing, others, forged, too_many, the_last_number]
)
def test_keys_that_do_not_open_it_are_refused(world, there, forge):
    with pytest.raises(Refusal) as refused:
        move(there, world, forge(world, there))
    assert refused.value.code is RefusalCode.MALFORMED
    with there.store.read() as tx:
        assert tx.projects.names() == []
