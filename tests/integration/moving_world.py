"""A project at one coordinator, and another one that it moves to."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pleb_coordinator.steps.invite import new_invite
from pleb_coordinator.steps.publish import publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_coordinator.steps.version_history import all_versions, line_of
from pleb_coordinator.steps.version_log import log_of
from pleb_shared.protocol.messages import History, Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.project import CoordinatorAddress, Delegation
from tests.integration.steps_world import World

THERE = "https://new.example.org"
ADDRESS = CoordinatorAddress(url=THERE)


class NewCoordinator(World):
    """A coordinator without any project."""

    is_ready = False

    def publish(self, metadata=None, *, invite=True):
        return None

    def run(self):
        if self.is_ready:
            super().run()


def old_world(tmp_path, **options):
    """Return a project with three versions."""
    home = tmp_path / "old"
    home.mkdir()
    world = World(home, **options)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 3:
        world.work(trusted)
    return world


def new_coordinator(tmp_path, world):
    """Return another coordinator, with all of the project's blobs, and its root key."""
    home = tmp_path / "new"
    home.mkdir()
    there = NewCoordinator(home)
    there.root = world.root
    with world.store.read() as tx:
        for digest in tx.references.blobs():
            there.deps.blobs.put(world.deps.blobs.get(digest))
    return there


def moved_to(there, world, **changes):
    return msgspec.structs.replace(
        world.metadata,
        number=2,
        coordinator=ADDRESS,
        delegation=Delegation(
            online_key=there.online.public,
            expires_at=world.metadata.delegation.expires_at,
            may_restore=True,
        ),
        **changes,
    )


def brought(world):
    """Return what a researcher brings: lines of versions, of the signed log, and envelopes."""
    project = world.project
    with world.store.read() as tx:
        versions = [line_of(row) for row in all_versions(tx, project)]
        return versions, log_of(tx, project), [tx.projects.envelope(project.id, 1)]


def move(there, metadata, versions, entries, envelopes, records=None):
    """Publish what was brought, and with `records` what the coordinator before has signed."""
    blobs = [b"\n".join(lines) for lines in (versions, entries, envelopes)]
    for data in blobs:
        there.deps.blobs.put(data)
    history = History(*map(blob_of, blobs))
    with there.store.write() as tx:
        token = new_invite(tx, there.deps, Role.PUBLISHER, lifetime_seconds=60)
    signed = open_publication(there.envelope(metadata, invite=token, key=there.root))
    assert signed.request is not None
    opened = replace(
        signed, request=msgspec.structs.replace(signed.request, history=history, records=records)
    )
    findings = examine(there.deps, opened)
    with there.store.write() as tx:
        publish(tx, there.deps, opened, findings, THERE)
    there.is_ready = True
    there.run()
