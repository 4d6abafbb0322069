"""Mirrors: filled, brought up to date, looked at; and agents that use one, good or bad."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pleb_agent.web.server import LocalServer
from pleb_coordinator.backups.mirror import files_for_mirror, sync_mirror
from pleb_coordinator.backups.mirror_target import BucketTarget, FolderTarget, open_target
from pleb_coordinator.blobs.s3 import open_bucket
from pleb_coordinator.cli import main
from pleb_coordinator.home.config import S3, CoordinatorConfig, config_text
from pleb_coordinator.home.keys import make_secret_file
from pleb_coordinator.home.layout import Home
from pleb_coordinator.steps.serve import Asked, serve
from pleb_coordinator.steps.version_history import LoggedVersion
from pleb_coordinator.store.references import METADATA
from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Received, Role
from pleb_shared.protocol.parts import leaves_of
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.protocol.status import ReceivedStatus, shown_received
from tests.integration.agent_home import attached, delivered
from tests.integration.steps_world import World
from tests.s3_server import KEYS, shared_s3

LARGE = bytes(range(256)) * 5000
"""Two parts."""


@pytest.fixture
def world(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    found = World(home, versions=100)
    make_secret_file(Home(found.home).secret_file)
    (found.home / "coordinator.toml").write_text(config_text(CoordinatorConfig()))
    return found


def wanted(world):
    project = world.project
    with world.store.read() as tx:
        return files_for_mirror(tx, world.deps, project)


def folder_of(tmp_path):
    return FolderTarget(tmp_path / "mirror")


def bucket(_):
    url = f"s3://{shared_s3().new_bucket()}/some/where"
    return BucketTarget(open_bucket(url, endpoint=shared_s3().endpoint, region="us-east-1", **KEYS))


def named_by_metadata(world, data):
    """Put a blob into the store that the metadata need."""
    digest, project = world.deps.blobs.put(data), world.project
    with world.store.write() as tx:
        tx.references.add(project.id, 0, METADATA, [digest])
    return digest


@pytest.mark.parametrize("make", [folder_of, bucket])
def test_a_mirror_has_what_hosts_need_and_nothing_else(world, tmp_path, make):
    target, blobs = make(tmp_path), world.deps.blobs
    large = named_by_metadata(world, LARGE)
    done = sync_mirror(blobs, target, wanted(world))
    assert done.copied == done.files == len(target.sizes("blobs"))
    for digest in target.sizes("blobs"):
        assert digest_of(target.read(f"blobs/{digest}")) == digest
    assert target.sizes("parts").keys() == {large}
    assert target.read(f"parts/{large}") == b"".join(leaves_of(LARGE))
    newest = wanted(world).metadata[1]
    assert target.read("projects/tiny/metadata") == newest
    assert target.read("projects/tiny/metadata-1") == newest
    assert sync_mirror(blobs, target, wanted(world)).copied == 0

    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < LIMITS.version_lag + 2:
        world.work(trusted)
    later = sync_mirror(blobs, target, wanted(world))
    assert later.copied > LIMITS.version_lag
    log = target.read("projects/tiny/log.jsonl").splitlines()
    versions = [msgspec.json.decode(line, type=LoggedVersion) for line in log]
    assert [one.number for one in versions] == list(range(LIMITS.version_lag + 3))
    there = target.sizes("blobs")
    for one in versions[-LIMITS.version_lag - 1 :]:
        assert one.source is not None
        assert {blob.digest for blob in [one.source.snapshot, *one.source.differences]} <= set(
            there
        )
    assert versions[-1].outer_state in there
    assert versions[-2].outer_state not in there
    while world.project.version < 2 * LIMITS.version_lag:
        world.work(trusted)
    last = sync_mirror(blobs, target, wanted(world))
    assert last.removed > 0
    assert versions[-1].outer_state not in target.sizes("blobs")
    assert len(target.sizes("blobs")) == last.files


def test_projects_share_a_mirror(world, tmp_path):
    target = folder_of(tmp_path)
    own, shared = named_by_metadata(world, b"own"), named_by_metadata(world, b"shared")
    files = wanted(world)
    sync_mirror(world.deps.blobs, target, files)
    neighbour = replace(files, project="neighbour", digests=frozenset({shared}))
    sync_mirror(world.deps.blobs, target, neighbour)
    less = replace(files, digests=files.digests - {own, shared})
    assert sync_mirror(world.deps.blobs, target, less).removed == 1
    assert shared in target.sizes("blobs")
    assert own not in target.sizes("blobs")


def test_an_interrupted_run_is_taken_up_again(world, tmp_path):
    target, files = folder_of(tmp_path), wanted(world)

    class Breaks(FolderTarget):
        left = 3

        def write(self, name, parts):
            self.left -= 1
            if self.left < 0:
                raise OSError("no room")
            super().write(name, parts)

    with pytest.raises(OSError, match="no room"):
        sync_mirror(world.deps.blobs, Breaks(tmp_path / "mirror"), files)
    assert sync_mirror(world.deps.blobs, target, files).files == len(target.sizes("blobs"))


def test_a_damaged_blob_reaches_no_mirror(world, tmp_path):
    target = folder_of(tmp_path)
    digest = named_by_metadata(world, LARGE)
    path = next((world.home / "blobs").rglob(digest))
    path.write_bytes(LARGE[:-1] + b"?")
    with pytest.raises(Refusal, match="damaged"):
        sync_mirror(world.deps.blobs, target, wanted(world))
    assert digest not in target.sizes("blobs")


def test_places_that_are_none(tmp_path):
    for wrong in ("https://example.org/x", "ftp://example.org"):
        with pytest.raises(InputError, match="s3://"):
            open_target(wrong, S3())
    assert isinstance(open_target(str(tmp_path), S3()), FolderTarget)


# -- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.org", True),
        ("http://127.0.0.1:8000/some/folder", True),
        ("https://bucket.s3.example.org/my%20project", True),
        ("https://example.org/", False),
        ("https://user:secret@example.org/x", False),
        ("https://example.org/x?y=", False),
        ("https://example.org/x#y", False),
        ("ftp://example.org/x", False),
        ("https:///x", False),
        ("https://exa mple.org", False),
        ("https://example.org/\n", False),
    ],
)
def test_a_mirrors_address_is_a_folder_on_a_web_server(world, url, good):
    data = msgspec.to_builtins(world.metadata) | {"mirrors": [url]}
    if good:
        assert msgspec.convert(data, ProjectMetadata).mirrors == [url]
    else:
        with pytest.raises(msgspec.ValidationError, match="mirror"):
            msgspec.convert(data, ProjectMetadata)


# -- commands --------------------------------------------------------------------------------


@contextmanager
def web_server(app):
    """Serve an app from a thread; gives its address."""
    server = LocalServer(app)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run()))
    thread.start()
    while True:  # it has its port before it listens
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
            break
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        loop.call_soon_threadsafe(server.stop)
        thread.join()
        loop.close()


def static(folder):
    folder.mkdir(exist_ok=True)
    return Starlette(routes=[Mount("/", StaticFiles(directory=folder))])


def test_commands_fill_a_mirror_and_look_at_it(world, tmp_path, capsys):
    folder = tmp_path / "mirror"

    def run(*words):
        code = main(["mirror", *words, "--home", str(world.home), "--json"])
        return code, json.loads(capsys.readouterr().out)

    with web_server(static(folder)) as url:
        metadata = msgspec.structs.replace(world.metadata, number=2, mirrors=[url])
        world.publish(metadata, invite=False)
        assert run("list") == (
            0,
            [{"project": "tiny", "mirrors": [_unchecked(url)]}],
        )
        code, found = run("check", "tiny")
        assert code == 8
        assert "has no blob" in found["mirrors"][0]["problem"]
        code, done = run("sync", "tiny", str(folder))
        assert (code, done["files"]) == (0, len(wanted(world).digests))
        code, found = run("check", "tiny")
        assert (code, found["mirrors"][0]["problem"]) == (0, "")
        assert found["mirrors"][0]["blobs"] == found["mirrors"][0]["sampled"] == done["files"]
        world.publish(msgspec.structs.replace(metadata, number=3), invite=False)
        assert "metadata are old" in run("check", "tiny")[1]["mirrors"][0]["problem"]
        run("sync", "tiny", str(folder))
        for path in (folder / "blobs").iterdir():
            path.write_bytes(bytes(path.stat().st_size))
        assert "wrong bytes" in run("check", "tiny")[1]["mirrors"][0]["problem"]
        next((folder / "blobs").iterdir()).unlink()
    assert "does not answer" in run("check", "tiny")[1]["mirrors"][0]["problem"]
    assert "does not answer" in run("list")[1][0]["mirrors"][0]["problem"]


def _unchecked(url):
    return {
        "url": url,
        "problem": "not checked yet",
        "blobs": 0,
        "sampled": 0,
        "checked_at": 0.0,
    }


# -- agents ----------------------------------------------------------------------------------


@asynccontextmanager
async def mirror_of(coordinator, fault=""):
    """Serve the coordinator's blobs from elsewhere; gives the mirror's address."""

    async def blob(request):
        data = coordinator.blobs.get(request.path_params["digest"])
        if data is None or fault == "empty":
            return Response("Not found", 404)
        if fault == "stalls":
            await asyncio.sleep(60)
        return Response(bytes(len(data)) if fault == "garbage" else data)

    async def parts(request):
        data = coordinator.blobs[request.path_params["digest"]]
        return Response(b"".join(leaves_of(data)))

    routes = [Route("/m/blobs/{digest}", blob), Route("/m/parts/{digest}", parts)]
    server = LocalServer(Starlette(routes=routes))
    task = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{server.port}/m"
    finally:
        server.stop()
        await task


def received(coordinator):
    """What the agent has said, added up."""
    said = [msgspec.structs.asdict(r.received) for r in coordinator.requests if r.received]
    return Received(**{name: sum(one[name] for one in said) for name in Received.__struct_fields__})


def test_an_agent_gets_blobs_from_the_mirror_that_the_metadata_name(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent), mirror_of(coordinator) as url:
            coordinator.publish(mirrors=[url])
            coordinator.plan(2)
            await agent.work(units=2)
            assert delivered(coordinator) == [1, 2]
            got = received(coordinator)
            assert coordinator.blob_requests == []
            assert (got.coordinator, got.peers) == (0, 0)
            assert got.mirrors > 4000

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["empty", "garbage", "stalls"])
def test_a_bad_mirror_stops_nobody(tmp_path, fault, monkeypatch):
    monkeypatch.setattr("pleb_agent.blobs.fetch.STALL_SECONDS", 0.3)

    async def story():
        async with attached(tmp_path) as (coordinator, agent), mirror_of(coordinator, fault) as url:
            coordinator.publish(mirrors=[url, "http://127.0.0.1:9"])
            coordinator.plan(2)
            await agent.work(units=2)
            assert delivered(coordinator) == [1, 2]
            assert received(coordinator).coordinator > 4000

    asyncio.run(story())


# -- what hosts say --------------------------------------------------------------------------


def test_what_hosts_received_is_added_up_once(world):
    host = world.volunteer("a")
    request = msgspec.structs.replace(
        world.request(host, 0, []), received=Received(mirrors=7, coordinator=3)
    )
    asked = Asked(request, "d" * 64, [], protocol=1, network="")
    for _ in range(2):  # the second time it is the stored answer
        with world.store.write() as tx:
            serve(tx, world.deps, asked)
    project = world.project
    with world.store.read() as tx:
        assert tx.projects.received(project.id) == {"coordinator": 3, "mirrors": 7}
    status = ReceivedStatus(coordinator=3_000_000, mirrors=7_000_000)
    assert shown_received(status) == (
        "10.0 MB, 70 % from mirrors, 0 % from PCs near by, 0 % from other volunteers, "
        "30 % from the coordinator"
    )
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"peers": 2**41}, Received)
