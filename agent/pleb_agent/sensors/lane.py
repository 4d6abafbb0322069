"""A thread that reads slow sensors one after another, and is replaced when one hangs."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.sensors.slot import Slot

__all__ = ["Lane"]


class Lane:
    """A driver that hangs costs its own sensor only: the others go on in a fresh thread."""

    def __init__(
        self, clock: Callable[[], float], finished: Callable[[bool, Exception | None], None]
    ) -> None:
        self._clock = clock
        self._finished = finished
        self._waiting: queue.SimpleQueue[Slot[Any] | None] = queue.SimpleQueue()
        self._reading: Slot[Any] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, slot: Slot[Any]) -> None:
        """Have the sensor read soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)
            self._thread.start()
        self._waiting.put(slot)

    def take_stuck(self) -> Slot[Any] | None:
        """Return the sensor in hand if it is overdue; what waits goes to a new thread."""
        stuck = self._reading
        if stuck is None or not stuck.is_overdue(self._clock()):
            return None
        old, self._waiting = self._waiting, queue.SimpleQueue()
        self._reading = self._thread = None
        _pour(old, self)
        old.put(None)
        return stuck

    def close(self) -> None:
        """End the thread when its sensor answers."""
        self._waiting.put(None)

    def _run(self) -> None:
        waiting = self._waiting
        while (slot := waiting.get()) is not None:
            slot.begin(self._clock())
            self._reading = slot
            moved, error = False, None
            try:
                moved = slot.finish(slot.sensor.read())
            except Exception as failure:  # noqa: BLE001 - it is raised in the board's `run`
                error = failure
            if self._waiting is waiting:
                self._reading = None
            self._finished(moved, error)


def _pour(old: queue.SimpleQueue[Slot[Any] | None], lane: Lane) -> None:
    while True:
        try:
            slot = old.get_nowait()
        except queue.Empty:
            return
        if slot is not None:
            lane.submit(slot)
