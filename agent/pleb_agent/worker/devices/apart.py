"""Asks a driver in a process of its own, so that this one stays without its threads."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec

from pleb_agent.worker.devices.backends import Card
from pleb_agent.worker.devices.device import DeviceUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ask_apart"]


def ask_apart(question: Callable[[], Card]) -> Card:
    """Return the answer of a forked process, which ends then; asked in this one where none forks.

    A process that has started a driver cannot fork, so this comes before the driver is used.

    Raises:
        DeviceUnusable: the driver refuses, or its process died.
    """
    if sys.platform != "linux":
        return _answer(question)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, msgspec.json.encode(_answer(question)))
        except DeviceUnusable as error:
            os.write(writing, msgspec.json.encode(str(error)))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise DeviceUnusable("The driver's library ended the process that asked it.")
    answer: Card | str = msgspec.json.decode(said, type=Card | str)
    if isinstance(answer, str):
        raise DeviceUnusable(answer)
    return answer


def _answer(question: Callable[[], Card]) -> Card:
    try:
        return question()
    except (RuntimeError, AssertionError, OSError) as error:
        raise DeviceUnusable(f"The driver does not answer: {error}") from error
