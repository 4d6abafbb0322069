"""Members of a project on the internet: real agents and a real coordinator, one behind NAT."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from benchmarks.peers_network import Internet, internet
from pleb_agent.control.live_preferences import encode
from pleb_agent.core.preferences import Preferences
from tests.e2e.world import wait_until
from tests.system import test_private_namespace as private_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

COORDINATOR = Internet.coordinator4


class Far(private_world.Private):
    """A coordinator with HTTPS, and members that share on the internet."""

    def __init__(self, root: Path, net: Internet, stack: ExitStack) -> None:
        self.root, self.places, self.stack = root, net, stack
        self.home = root / "coordinator"

    @override
    def serve(self) -> str:
        self.admin("init", "--own-network", "192.88.99.0/24")
        options = ("--host", COORDINATOR, "--port", private_world.PORT, "--tls", "self-signed")
        command = ("serve", "--json", *options, "--home", self.home)
        server = self.run("server", self.places.coordinator, "pleb_coordinator.cli", *command)

        def line() -> str | None:
            assert server.alive, server.tail()
            said = [text for text in server.log.read_text().splitlines() if '"url"' in text]
            return said[0] if said else None

        said = json.loads(wait_until("the coordinator to listen", line, seconds=60))
        return f"{said['url']}#{said['certificate']}"

    @override
    def join(self, number: int, role: str) -> str:
        made = self.admin("invite", "new", "--project", "tiny", "--role", role)
        namespace, home = self.places.hosts[number][0], self.root / f"member{number}"
        self.inside(namespace, "pleb_agent.cli", "attach", made["link"], "--home", home)
        wanted = Preferences(nice=False, lan_sharing=False, internet_sharing=True)
        (home / "preferences.json").write_bytes(encode(wanted))
        command = ("start", "--headless", "--preset", "full", "--threads", 1, "--home", home)
        self.run(f"member{number}", namespace, "pleb_agent.cli", *command)
        return str(made["token"])

    def shown(self, number: int) -> dict[str, Any]:
        """Return what a member's `status` says of sharing."""
        namespace, home = self.places.hosts[number][0], self.root / f"member{number}"
        said = self.inside(namespace, "pleb_agent.cli", "status", "--json", "--home", home)
        found: dict[str, Any] = (json.loads(said).get("sharing") or {}).get("internet") or {}
        return found


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with internet((1, 0, 1), 100, (100, 100)) as net, ExitStack() as stack:
        yield Far(tmp_path, net, stack)


def test_a_member_behind_nat_gets_from_one_that_is_reached(far: Far) -> None:
    address = far.serve()
    invite = far.admin("invite", "new", "--role", "publisher")["token"]
    researcher = far.root / "researcher"
    far.inside(far.places.coordinator, "tests.system.publishing", address, researcher, invite)
    far.join(0, "trusted")
    far.join(1, "host")

    def got() -> int:
        return int(far.admin("project", "show", "tiny")["received"]["internet"])

    wait_until("one to get from the other", got)
    wait_until("the one to hear that it is reached", lambda: "192.88.99.2" in said(far, 0))
    assert "cannot reach this PC" in said(far, 1)
    assert far.shown(0)["sent_bytes"] >= got() > 0
    assert far.shown(1)["sent_bytes"] == 0


def said(far: Far, number: int) -> str:
    """Return whether a member says that it is reached."""
    return str(far.shown(number).get("message", {}).get("text", ""))
