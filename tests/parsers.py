"""The parsers of a program's commands, caught while they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pleb_system.command_line import Commands

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def record_commands(
    make: Callable[[], argparse.ArgumentParser],
) -> tuple[argparse.ArgumentParser, list[argparse.ArgumentParser]]:
    """Return the program's parser, and those of its commands, also of the commands in groups."""
    made: list[argparse.ArgumentParser] = []
    add = Commands.add

    def add_and_record(*arguments: object) -> argparse.ArgumentParser:
        made.append(add(*arguments))  # type: ignore[arg-type]
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Commands, "add", add_and_record)
        return make(), made
