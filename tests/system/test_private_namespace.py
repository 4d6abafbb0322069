"""A private project between namespaces: what a stranger gets who hears and knows everything else.

Somebody listens to all frames of the network while two members train by HTTPS and share files with
each other, and asks the coordinator and the members' PCs for every file by its digest.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.peers_network import COORDINATOR, Network, network
from pleb_agent.control.live_preferences import encode
from pleb_agent.core.preferences import Preferences
from pleb_agent.program.clock import system_clock
from pleb_coordinator.cli import main as coordinator_main
from pleb_coordinator.home.layout import Home
from pleb_shared.protocol.lan import lan_key, lan_period
from pleb_shared.protocol.sealing import seal_mark
from tests.e2e.world import Running, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

PORT = 7532
ADDRESS = f"https://{COORDINATOR}:{PORT}"
MAGIC = b"PLEB\x01"
WINDOW = 24


class Private:
    """A coordinator with HTTPS, and members; each in a namespace of its own."""

    def __init__(self, root: Path, net: Network, stack: ExitStack) -> None:
        self.root, self.net, self.stack = root, net, stack
        self.home = root / "coordinator"
        self.heard = root / "heard"
        switch = net.coordinator.removesuffix("-c") + "-s"
        self.listener = net.start(switch, "-m", "tests.system.listening", str(self.heard))

    def inside(self, namespace: str, module: str, *arguments: object) -> str:
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", module]
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, name: str, namespace: str, module: str, *arguments: object) -> Running:
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", module]
        process = Running(name, [*command, *map(str, arguments)], self.root / f"{name}.log").start()
        self.stack.callback(process.stop)
        return process

    def admin(self, *arguments: object) -> Any:
        return run_here(coordinator_main, *arguments, "--home", self.home)

    def serve(self) -> str:
        """Start the coordinator; return its address with the certificate's pin."""
        self.admin("init", "--own-network", "10.77.0.0/24")
        options = ("--host", COORDINATOR, "--port", PORT, "--tls", "self-signed")
        command = ("serve", "--json", *options, "--home", self.home)
        server = self.run("server", self.net.coordinator, "pleb_coordinator.cli", *command)

        def line() -> dict[str, Any] | None:
            assert server.alive, server.tail()
            text = server.log.read_text()
            lines = [found for found in text.splitlines() if '"url"' in found]
            return json.loads(lines[0]) if lines else None

        said = wait_until("the coordinator to listen", line, seconds=60)
        assert said["url"] == ADDRESS
        return f"{ADDRESS}#{said['certificate']}"

    def join(self, number: int, role: str) -> str:
        """Attach an agent by a link with an invite, and start it; return the invite."""
        made = self.admin("invite", "new", "--project", "tiny", "--role", role)
        namespace, home = self.net.hosts[number], self.root / f"member{number}"
        self.inside(namespace, "pleb_agent.cli", "attach", made["link"], "--home", home)
        (home / "preferences.json").write_bytes(encode(Preferences(nice=False)))
        command = ("start", "--headless", "--preset", "full", "--threads", 1, "--home", home)
        self.run(f"member{number}", namespace, "pleb_agent.cli", *command)
        return str(made["token"])

    def version(self) -> int:
        return int(self.admin("project", "show", "tiny")["version"])

    def neighbours(self) -> list[str]:
        """Return where the members said on the network that they can be asked."""
        data, found, at = self.heard.read_bytes(), set(), 0
        header = struct.Struct(">5sB8sHQB")
        while (at := data.find(MAGIC, at)) >= 0:
            address = ".".join(map(str, data[at - 16 : at - 12]))  # IPv4: before the UDP header
            _, _, _, port, _, _ = header.unpack(data[at : at + header.size])
            found.add(f"http://{address}:{port}")
            at += 1
        return sorted(found)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Private]:
    with network(3, 100) as net, ExitStack() as stack:
        yield Private(tmp_path, net, stack)


def test_a_stranger_who_hears_and_knows_everything_gets_nothing(private: Private) -> None:
    address = private.serve()
    researcher = private.root / "researcher"
    invite = private.admin("invite", "new", "--role", "publisher")["token"]
    here = private.net.coordinator
    private.inside(here, "tests.system.publishing", address, researcher, invite)
    invites = [private.join(0, "trusted"), private.join(1, "host")]
    wait_until("three versions", lambda: private.version() >= 3)
    wait_until("both to be heard", lambda: len(private.neighbours()) == 2)

    # he asks for everything, by names that he could not even know
    stored = {
        path.name: path.read_bytes()
        for path in (private.home / "blobs").rglob("*")
        if len(path.name) == 64 and path.is_file()
    }
    assert all(seal_mark(data) for data in stored.values())
    digests = json.dumps(sorted(stored)[:40])
    stranger, peers = private.net.hosts[2], private.neighbours()
    asked = (ADDRESS, json.dumps(peers), digests)
    got = json.loads(private.inside(stranger, "tests.system.strange_asking", *asked))
    assert got == []

    # what he has heard until now holds no piece of the files, no name and no secret
    heard = private.heard.read_bytes()
    assert len(heard) > 500_000
    assert heard.count(MAGIC) >= 2  # he did hear the members,
    assert b"POST /have" in heard  # and what they ask of each other
    for name in (b"tiny", b"Tiny digits", b"tests@example.org", b"aten.", b"safetensors"):
        assert name not in heard, name
    for token in invites:
        assert token.encode() not in heard
    for file in private.root.glob("member*/keys/*.reading"):
        reading = json.loads(file.read_bytes())
        assert reading["reader"].encode() not in heard
        assert bytes.fromhex(reading["keys"][0]["key"]) not in heard
        number, day = reading["keys"][0]["number"], lan_period(system_clock())
        shared = lan_key(Home(private.home).secret_file.read_bytes(), "tiny", day, number).key
        assert shared.encode() not in heard
        assert bytes.fromhex(shared) not in heard
    for path in researcher.iterdir():
        if len(path.name) == 64:  # a shard, graph or version as it is inside
            pieces_unheard(path.read_bytes(), heard)


def pieces_unheard(data: bytes, heard: bytes) -> None:
    """Fail if the network has carried pieces of a file that hold more than a repeated byte."""
    places = range(0, max(1, len(data) - WINDOW), max(1, len(data) // 50))
    telling = [data[at : at + WINDOW] for at in places]
    for piece in telling:
        if len(set(piece)) > 8:
            assert piece not in heard
