"""Writes every frame that passes through this namespace to a file, until stdin ends.

ip netns exec SWITCH python -m tests.system.listening FILE
"""

from __future__ import annotations

import select
import socket
import sys
from pathlib import Path

_ALL_FRAMES = 0x0003
_FRAME_BYTES = 65_536


def main() -> None:
    """Listen on all interfaces; say so once it is done."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES)) as line,
        Path(sys.argv[1]).open("wb") as file,
    ):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 2**20)
        print("{}", flush=True)  # as `peers_network.Process` expects
        while True:
            ready, _, _ = select.select([line, sys.stdin], [], [])
            if line in ready:
                file.write(line.recv(_FRAME_BYTES))
                file.flush()
            elif not sys.stdin.readline():
                return


if __name__ == "__main__":
    main()
