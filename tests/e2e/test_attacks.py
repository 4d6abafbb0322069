"""Liars of every kind beside an honest fleet of real processes; nothing that was caught counts."""

from __future__ import annotations

import contextlib
import json
import platform
import socket
import sqlite3
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil
import pytest
import torch

from pleb_shared.protocol import strict_json
from pleb_shared.protocol.graph import parse_graph
from pleb_shared.protocol.project import ProjectMetadata
from pleb_shared.tensors.layout import load_tensors
from pleb_shared.tensors.version import load_base
from pleb_shared.training.graph import CompiledGraph, base_tensors
from pleb_shared.training.local_sgd import calibrate
from tests.e2e.recompute import Log, recompute
from tests.e2e.stranger import Refused, Stranger
from tests.e2e.world import PROJECTS, World, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Lie = Callable[[Stranger, dict[str, Any], int], tuple[bytes, list[float]]]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One coordinator, a trusted agent and an honest volunteer, both on PCs of the liars' kind."""
    world = World(tmp_path_factory.mktemp("attacks"))
    try:
        world.serve()
        link = world.publish(PROJECTS / "tiny")
        for name in ("trusted", "honest"):
            world.attach(name, link, trusted=name == "trusted")
            world.start_agent(name)
        yield world
    finally:
        world.close()


def altered(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Lie:
    def lie(host: Stranger, manifest: dict[str, Any], number: int) -> tuple[bytes, list[float]]:
        honest, losses = host.train(manifest)
        generator = np.random.default_rng(number)
        delta = {name: change(x, generator) for name, x in host.decode(honest).items()}
        return host.encode(delta, host.metadata["codec"]["up"]), losses

    return lie


def noise(x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    made = generator.normal(size=x.shape)
    return made * np.linalg.norm(x) / max(float(np.linalg.norm(made)), 1e-12)


def other_unit(**changes: Any) -> Lie:
    def lie(host: Stranger, manifest: dict[str, Any], _: int) -> tuple[bytes, list[float]]:
        return host.train(manifest | {"unit": manifest["unit"] | changes})

    return lie


def other_shard(host: Stranger, manifest: dict[str, Any], _: int) -> tuple[bytes, list[float]]:
    shards = manifest["unit"]["shards"]
    elsewhere = {"shards": shards | {"first": shards["first"] + 1}}
    return host.train(manifest | {"unit": manifest["unit"] | elsewhere})


def one_in_three(host: Stranger, manifest: dict[str, Any], n: int) -> tuple[bytes, list[float]]:
    """Noise, since two liars with the same simple lie would agree (docs/threat-model.md)."""
    return altered(noise)(host, manifest, 1000 + n) if n % 3 == 2 else host.train(manifest)


LIES: dict[str, Lie] = {
    "noise of the right norm": altered(noise),
    "zero": altered(lambda x, _: np.zeros_like(x)),
    "sign flip": altered(lambda x, _: -x),
    "skipped steps": other_unit(local_steps=1),
    "another shard": other_shard,
    "another seed": other_unit(seed=7),
}


@dataclass
class Liar:
    """A host in a thread that calibrates as the agents do and lies from then on.

    It names the same runtime, too: of another kind of PC hardly anything is known, so that its
    results count for nothing, and nobody is convicted for them.
    """

    name: str
    lie: Lie
    link: str
    stop: threading.Event
    lied: int = 0
    refusals: list[str] = field(default_factory=list)
    host: Stranger | None = None

    def run(self) -> None:
        torch.set_num_threads(1)
        self.host = Stranger(self.link)
        try:
            self.host.enrol()
            while not self.stop.is_set():
                self._turn(self.host)
        except Refused as refused:
            self.refusals.append(refused.code)
        finally:
            self.host.close()

    def _turn(self, host: Stranger) -> None:
        reply = host.post(self.request(host, wait_seconds=1))
        for manifest in reply["manifests"]:
            if manifest["unit"]["kind"] == "calibrate":
                delta, losses = calibration(host, manifest)
            else:
                delta, losses = self.lie(host, manifest, self.lied)
                self.lied += 1
            report = host.report(manifest, delta, losses)
            host.post(self.request(host, reports=[report], max_units=0), zlib.compress(delta))

    def request(self, host: Stranger, **changes: Any) -> dict[str, Any]:
        payload = host.request(**changes)
        payload["runtime"]["system"] = f"{platform.system()}-{platform.machine()}".lower()
        return payload


def calibration(host: Stranger, manifest: dict[str, Any]) -> tuple[bytes, list[float]]:
    """What an agent's worker sends for the calibration unit, to the bit."""
    metadata = strict_json.decode(
        json.dumps(host.metadata).encode(), ProjectMetadata, most_bytes=2**24
    )
    graph = CompiledGraph(parse_graph(host.blob(host.metadata["training_graph"])))
    base = load_base(metadata.model, lambda digest: host.blob({"digest": digest}))
    graph = graph.with_base(base_tensors(base.items()))
    version, shard = host.blob(host.model["initial"]), host.shards["train"][0]
    assert manifest["unit"]["shards"] == {"first": 0, "count": 1}
    outcome = calibrate(
        graph, metadata, load_tensors(version), load_tensors(host.blob(shard)), time.perf_counter
    )
    return outcome.delta, [outcome.loss_first, outcome.loss_last]


@contextlib.contextmanager
def at_work(liars: list[Liar]) -> Iterator[None]:
    threads = [threading.Thread(target=liar.run) for liar in liars]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for liar in liars:
            liar.stop.set()
        for thread in threads:
            thread.join(30)


def standing(world: World) -> dict[str, dict[str, Any]]:
    return {host["host"]: host for host in world.admin("host", "list", "tiny")}


def caught_but_used(world: World) -> list[int]:
    """Results proven wrong that are in a version whose units do not admit it."""
    query = """
        SELECT a.id FROM assignments a JOIN units u ON u.id = a.unit
        WHERE a.state = 'invalid' AND u.canonical = a.id AND u.state <> 'disproved'
    """
    with contextlib.closing(sqlite3.connect(world.home / "store.sqlite")) as store:
        return [row[0] for row in store.execute(query)]


def check_books(world: World) -> None:
    versions, wrong = recompute(world.home, "tiny")
    assert wrong == []
    assert versions > 1
    assert caught_but_used(world) == []
    assert Log(world.home, "tiny").applied()


def test_liars_of_every_kind_are_caught_and_the_fleet_goes_on(world: World) -> None:
    stop = threading.Event()
    kinds = LIES | {"one in three": one_in_three}
    liars = [Liar(name, lie, world.links["tiny"], stop) for name, lie in kinds.items()]
    began = world.version("tiny")
    with at_work(liars):
        wait_until("every liar to have lied", lambda: all(liar.lied for liar in liars), seconds=60)
        world.wait_for_version("tiny", began + 6, seconds=90)
    after = world.version("tiny")
    world.wait_for_version("tiny", after + 2, seconds=90)
    hosts = standing(world)
    for liar in liars:
        assert liar.host is not None
        row = hosts[liar.host.host]
        if liar.name != "one in three":
            assert (row["units_valid"], row["credit"]) == (0, 0.0), (liar.name, row)
            assert not row["proven"]
    assert sum(hosts[liar.host.host]["refused"] for liar in liars if liar.host) > 0
    check_books(world)


def test_bodies_that_never_end_leave_the_others_alone(world: World) -> None:
    """300 of them from one address: other answers stay quick, and rounds go on."""
    before = psutil.Process(world.pids()["http_pid"]).memory_info().rss
    usual_seconds = seconds_of_answers(world)  # so that a busy machine is no finding
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(endless(world.port))
        assert seconds_of_answers(world) - usual_seconds < 5
        world.wait_for_version("tiny", world.version("tiny") + 1, seconds=60)
        grown = psutil.Process(world.pids()["http_pid"]).memory_info().rss - before
        assert grown < 100 * 2**20


def seconds_of_answers(world: World) -> float:
    began = time.monotonic()
    for _ in range(20):
        assert httpx.get(f"{world.url}/health", timeout=5).status_code == 200
    return time.monotonic() - began


@contextlib.contextmanager
def endless(port: int) -> Iterator[Any]:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    with connection:
        head = "POST /projects/tiny/work HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 10_000)
        yield connection
