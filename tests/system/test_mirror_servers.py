"""Mirrors that are what people have: nginx over a folder, and a bucket; killed, emptied, spoilt."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from benchmarks.lan_host import LanHost
from pleb_agent.blobs.source import SourceKind
from pleb_coordinator.backups.mirror import MirrorFiles, sync_mirror
from pleb_coordinator.backups.mirror_target import BucketTarget, FolderTarget
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.blobs.parts import stored
from pleb_coordinator.blobs.s3 import open_bucket
from pleb_shared.protocol.parts import blob_of
from tests.integration.test_lan_sharing import Coordinator
from tests.s3_server import KEYS, shared_s3
from tests.system.test_proxies import free_port

pytestmark = pytest.mark.system

DATA = [secrets.token_bytes(5 * 2**20 + n) for n in range(4)] + [secrets.token_bytes(50_000)]


@pytest.fixture
def wanted(tmp_path):
    blobs = LocalBlobs(tmp_path)
    named = [stored(blobs, data) for data in DATA]
    return blobs, named


def files(named):
    return MirrorFiles("words", frozenset(blob.digest for blob in named), {1: b"{}"}, b"")


class Nginx:
    """nginx over a folder."""

    def __init__(self, folder, root):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._config = folder / "nginx.conf"
        paths = "".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""  # who can read the test's folder
        self._config.write_text(
            f"{user} pid {folder}/pid; error_log stderr crit; daemon off; events {{}}\n"
            f"http {{ {paths} access_log off; server {{ listen 127.0.0.1:{self.port}; "
            f"root {root}; }} }}\n"
        )
        self._process = self._started()

    def start(self):
        self._process = self._started()

    def _started(self):
        process = subprocess.Popen(["nginx", "-c", self._config])
        for _ in range(100):
            try:
                httpx.get(self.url)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                break
        return process

    def stop(self):
        self._process.terminate()
        self._process.wait()


@asynccontextmanager
async def one_host(folder, mirror, speed=200e6):
    coordinator = Coordinator(speed)
    coordinator.data = {blob_of(data).digest: data for data in DATA}
    async with coordinator.serving() as url:
        host = LanHost(url, bytes(32), folder, mirrors=[mirror], lan=False)
        try:
            yield coordinator, host
        finally:
            await host.close()


def fetch(folder, mirror, named, during=None):
    """Fetch everything; return the share of the bytes that came from the mirror."""

    async def story():
        async with one_host(folder, mirror) as (_, host):
            task = asyncio.create_task(host.fetch(named))
            if during is not None:
                await during()
            await asyncio.wait_for(task, 60)
            assert all(host.cache.check_again(blob) for blob in named)
            return host.fetcher.received[SourceKind.MIRROR] / host.fetcher.received.total()

    return asyncio.run(story())


def test_nginx_serves_most_bytes_and_nothing_stops_when_it_goes(tmp_path, wanted):
    blobs, named = wanted
    root = tmp_path / "mirror"
    sync_mirror(blobs, FolderTarget(root), files(named))
    server = Nginx(tmp_path, root)
    try:
        assert fetch(tmp_path / "first", server.url, named) >= 0.7

        async def kill():
            await asyncio.sleep(0.02)
            await asyncio.to_thread(server.stop)

        fetch(tmp_path / "killed", server.url, named, kill)
        assert fetch(tmp_path / "gone", server.url, named) == 0
        for path in root.rglob("*"):
            if path.is_file():
                path.unlink()
        server.start()
        assert fetch(tmp_path / "empty", server.url, named) == 0
        sync_mirror(blobs, FolderTarget(root), files(named))
        for path in (root / "blobs").iterdir():
            path.write_bytes(secrets.token_bytes(path.stat().st_size))
        fetch(tmp_path / "garbage", server.url, named)
        for path in (root / "blobs").iterdir():
            path.unlink()
        sync_mirror(blobs, FolderTarget(root), files(named))
        assert fetch(tmp_path / "again", server.url, named) >= 0.7
    finally:
        server.stop()


def test_a_bucket_serves_most_bytes(tmp_path, wanted):
    blobs, named = wanted
    bucket = shared_s3().new_bucket()
    url = f"s3://{bucket}/words"
    store = open_bucket(url, endpoint=shared_s3().endpoint, region="us-east-1", **KEYS)
    sync_mirror(blobs, BucketTarget(store), files(named))
    assert fetch(tmp_path / "host", f"{shared_s3().endpoint}/{bucket}/words", named) >= 0.7
