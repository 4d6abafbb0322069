"""A window of a bare X server that says of itself what a window manager would say."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleb_agent.probe.x11_wire import X11Connection

CREATE_WINDOW, DESTROY_WINDOW, CHANGE_PROPERTY = 1, 4, 18
ATOM, WINDOW = 4, 33


class Window:
    """One window of 10 x 10 points."""

    def __init__(self, x: X11Connection) -> None:
        self.x = x
        self.id = x.new_id()
        size = struct.pack("<hhHHHHII", 0, 0, 10, 10, 0, 1, 0, 0)
        x.send(CREATE_WINDOW, 0, struct.pack("<II", self.id, x.root) + size)

    def come_to_the_front(self) -> None:
        self._set(self.x.root, "_NET_ACTIVE_WINDOW", WINDOW, [self.id])

    def fill(self, fills: bool) -> None:
        states = [self.x.atom("_NET_WM_STATE_FULLSCREEN")] if fills else []
        self._set(self.id, "_NET_WM_STATE", ATOM, states)

    def close(self) -> None:
        self.x.send(DESTROY_WINDOW, 0, struct.pack("<I", self.id))
        self._set(self.x.root, "_NET_ACTIVE_WINDOW", WINDOW, [0])

    def _set(self, window: int, name: str, kind: int, values: list[int]) -> None:
        head = struct.pack("<IIIBxxxI", window, self.x.atom(name), kind, 32, len(values))
        self.x.send(CHANGE_PROPERTY, 0, head + struct.pack(f"<{len(values)}I", *values))
