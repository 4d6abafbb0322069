"""What the HTTP process and the process that does a long command for it tell each other."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from pleb_coordinator.core.admins import AdminRole
from pleb_shared.errors import InputError, PlebError, Refusal, RefusalCode

if TYPE_CHECKING:
    from pleb_coordinator.admin.command import Actor, Command
    from pleb_coordinator.home.layout import Home

__all__ = ["Errand", "Outcome", "refusal_of_error", "send"]

_FAILED = "The command was broken off on the coordinator: its log, and `doctor`, say more."


class Errand(msgspec.Struct, frozen=True):
    """A command, and who asks."""

    words: str
    arguments: msgspec.Raw
    admin: str
    who: str
    role: AdminRole
    projects: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True):
    """Its value as JSON, or why there is none."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    code: RefusalCode | None = None
    message: str = ""

    @classmethod
    def of(cls, error: PlebError) -> Outcome:
        """Return the outcome of a command that was refused."""
        refusal = refusal_of_error(error)
        return cls(code=refusal.code, message=refusal.message)


def refusal_of_error(error: PlebError) -> Refusal:
    """Return what travels of a command's error."""
    if isinstance(error, Refusal):
        return error
    code = RefusalCode.WRONG_INPUT if isinstance(error, InputError) else RefusalCode.INTERNAL
    return Refusal(code, str(error))


async def send(home: Home, command: Command[Any], actor: Actor) -> bytes:
    """Let another process carry a command out; return its value as JSON.

    Raises:
        Refusal: as the command, or `internal`: the process ended without an outcome.
    """
    errand = Errand(
        words=command.words,
        arguments=msgspec.Raw(msgspec.json.encode(command)),
        admin=actor.admin,
        who=actor.who,
        role=actor.role,
        projects=actor.projects,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pleb_coordinator.admin", str(home.path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(msgspec.json.encode(errand))
    try:
        outcome = msgspec.json.decode(said, type=Outcome)
    except msgspec.DecodeError as error:
        raise Refusal(RefusalCode.INTERNAL, _FAILED) from error
    if outcome.code is not None:
        raise Refusal(outcome.code, outcome.message)
    return bytes(outcome.value)
