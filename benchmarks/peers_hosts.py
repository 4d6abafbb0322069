"""Starting the coordinator and the hosts of the benchmarks of peers, and what they are told."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks.peers_network import COORDINATOR, PORT
from pleb_coordinator.blobs.parts import stored

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers_network import Namespaces, Process
    from pleb_coordinator.blobs.local import LocalBlobs
    from pleb_shared.protocol.unit import Blob

__all__ = ["SETTLE_SECONDS", "command", "made", "start_host", "start_server"]

SETTLE_SECONDS: Final = 2.0
"""For the first beacons."""


def made(blobs: LocalBlobs, size: float) -> Blob:
    """Return a new blob of so many bytes, at the coordinator."""
    return stored(blobs, secrets.token_bytes(int(size)))


def command(kind: str, **values: Any) -> str:
    """Return a line for a host."""
    return json.dumps({"type": kind, **msgspec.to_builtins(values)})


def start_server(net: Namespaces, home: Path, address: str = COORDINATOR, key: str = "") -> Process:
    """Start the coordinator; with a key it names hosts that share on the internet."""
    words = ("-m", "benchmarks.peers_server", str(home), address, str(PORT))
    return net.start(net.coordinator, *words, *filter(None, [key]))


def start_host(
    net: Namespaces,
    namespace: str,
    home: Path,
    key: str,
    fault: str = "",
    internet: str = "",
) -> Process:
    """Start a host. `key`: what it shares by, or `-`: it shares with nobody.

    `internet`: the coordinator's address, where it shares with hosts that are named there.
    """
    words = ("-m", "benchmarks.lan_host", f"http://{internet or COORDINATOR}:{PORT}", key)
    far = "internet" if internet else ""
    return net.start(namespace, *words, net.folder(home), "", fault, far)
