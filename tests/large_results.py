"""A coordinator in its own processes, and a host whose result is as large as a test wants.

The small world of `steps_world` with one large tensor: the calibration unit's delta, which is never
quantised, has `result_bytes`. What is sent to `serve` is counted, and can be cut anywhere.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec
import numpy as np
import psutil

from pleb_coordinator.home.config import (
    S3,
    CoordinatorConfig,
    Networks,
    config_text,
)
from pleb_coordinator.home.layout import Home
from pleb_shared.protocol.project import TensorSpec
from tests.e2e.world import Running, wait_until
from tests.integration import steps_world
from tests.integration.http_world import HttpWorld
from tests.integration.steps_world import World
from tests.postgres import free_port
from tests.s3_server import KEYS
from tests.system.test_many_machines import OFFSET, SharedClock, _blobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from pleb_shared.protocol.messages import WorkReply
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.report import Report
    from pleb_shared.tensors.layout import Tensors
    from tests.integration.steps_world import Volunteer

_COLUMNS: Final = 1024


@dataclass
class LargeServed:
    """A `serve` that can be killed and started again, and a host of it."""

    world: World
    home: Path
    port: int
    process: Running | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start `serve` and wait until it answers."""
        words = ["serve", "--home", str(self.home), "--port", str(self.port), "--json"]
        program = [sys.executable, "-m", "pleb_coordinator.cli", *words]
        program += ["--clock-offset", str(OFFSET)]
        self.process = Running("serve", program, self.home.parent / "serve.log").start()

        def healthy() -> bool:
            assert self.process is not None
            assert self.process.alive, self.process.tail()
            try:
                return httpx.get(f"{self.url}/health", timeout=5).is_success
            except httpx.TransportError:
                return False

        wait_until("the coordinator to answer", healthy, seconds=60)

    def kill(self) -> None:
        """kill -9 all of its processes, as a power cut would."""
        assert self.process is not None
        children = self.process.descendants()
        self.process.kill()
        for child in children:
            child.kill()
        psutil.wait_procs(children)

    def part(self, name: str) -> psutil.Process:
        """The process that serves HTTP (`web_app`), or the one in the background (`jobs_app`)."""
        assert self.process is not None
        children = self.process.descendants()
        return next(c for c in children if f"pleb_coordinator.{name}" in c.cmdline())

    def work(self, host: Volunteer, reports: list[Report], units: int) -> WorkReply:
        """Send one work request of the host's."""
        wire = HttpWorld(self.world, None, None)  # type: ignore[arg-type]
        request = wire.request(host, reports, units=units)
        body = wire.signed(host, request) + b"\n"
        answer = httpx.post(f"{self.url}/projects/tiny/work", content=body, timeout=60)
        return wire.opened(answer, request)

    def slot(self, host: Volunteer) -> tuple[str, bytes, int]:
        """Lease the calibration, commit to its delta; return the token, the bytes, and its row."""
        manifest = self.work(host, [], 1).manifests[0]
        wire = HttpWorld(self.world, None, None)  # type: ignore[arg-type]
        said, packed = wire.result(host, manifest, attached=False)
        receipt = self.work(host, [said], 0).receipts[0]
        assert receipt.upload is not None
        return receipt.upload, packed, manifest.assignment


@contextmanager
def large_served(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    result_bytes: int,
    bucket: str = "",
    s3: S3 | None = None,
    uploads: str = "",
) -> Iterator[LargeServed]:
    """Run `serve` on files, or on a bucket, with a project of that size.

    `uploads`: the address of the bucket that the metadata name.
    """
    rows = result_bytes // (4 * _COLUMNS)
    large = TensorSpec(name="w", dtype="float32", shape=[rows, _COLUMNS])
    parameters = [large, steps_world.PARAMETERS[1]]
    small = steps_world.initial_version()

    def initial() -> Tensors:
        return small | {"w": np.zeros((rows, _COLUMNS), np.float32)}

    def delta(seed: int, drift: float) -> Tensors:
        numbers = np.random.default_rng(seed).random((rows, _COLUMNS), np.float32)
        numbers *= np.float32(0.01 * (1 + drift))
        return small | {"w": numbers}

    patch.setattr(steps_world, "Clock", SharedClock)
    patch.setattr(steps_world, "PARAMETERS", parameters)
    patch.setattr(steps_world, "initial_version", initial)
    patch.setattr(steps_world, "honest_delta", delta)
    described = World.describe

    def describe(world: World, **given: Any) -> ProjectMetadata:
        return msgspec.structs.replace(described(world, **given), uploads=uploads)

    patch.setattr(World, "describe", describe)
    config = CoordinatorConfig(networks=Networks(own=("127.0.0.0/8",)))
    if s3 is not None:
        config = replace(config, blobs=bucket, s3=s3)
        patch.setattr(World, "new_blobs", staticmethod(lambda _: _blobs(bucket, s3)))
    with ExitStack() as stack:
        home = folder / "home"
        home.mkdir()
        world = World(home)
        stack.callback(world.store.close)
        _write_home(world, config)
        served = LargeServed(world, home, free_port())
        served.start()
        stack.callback(served.kill)
        yield served


def bucket_config(endpoint: str, public: str = "") -> S3:
    """Return how a bucket of the tests' servers is reached."""
    return S3(endpoint=endpoint, region="us-east-1", public=public, **KEYS)


def _write_home(world: World, config: CoordinatorConfig) -> None:
    home = Home(world.home)
    home.secret_file.write_bytes(world.deps.secret)
    for made in home.folders:
        made.mkdir(exist_ok=True)
    for secret in (home.secret_file, home.online_key_file):
        secret.chmod(0o600)
    home.config_file.write_text(config_text(config))
