"""Publishes the tests' project as a private one.

ip netns exec NAMESPACE python -m tests.system.publishing ADDRESS HOME INVITE
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pleb_project.publish.publisher import Publisher
from pleb_project.server.client import Coordinator, parse_address
from pleb_project.server.records import Home
from pleb_shared.protocol.sealing import seal_mark
from tests.e2e.world import PROJECTS, checked


def main() -> None:
    """Publish it, and put its files into the home as they are inside."""
    address, home, invite = sys.argv[1:]
    metadata, blobs = checked(PROJECTS / "tiny")
    with Coordinator(parse_address(address)) as coordinator:
        publisher = Publisher(coordinator, Home(Path(home)), time.time, lambda _: None)
        publisher.prepare("tiny", invite, "invited")
        publisher.publish(metadata, blobs, invite=invite, access="invited")
    for path in blobs.folder.iterdir():  # those of `checked` go with this process
        if path.is_file() and seal_mark(path.read_bytes()) is None:
            (Path(home) / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
