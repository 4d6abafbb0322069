"""Tokens with which other programs of the user's may pause the agent, and nothing else.

Only their hashes are kept, in the journal, so that a token is shown once.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.journal.journal import Journal

__all__ = ["Hook", "Hooks"]

_SETTING: Final = "hooks"
_MOST: Final = 20
_TOKEN_BYTES: Final = 24
_PREFIX: Final = "pleb-hook-"
_LONGEST_NAME: Final = 60


class Hook(msgspec.Struct, frozen=True):
    """Who has a token."""

    name: str
    created_at: float
    digest: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class Hooks:
    """Those of one home.

    Args:
        journal: keeps them.
        clock: seconds since 1970.
        draw: returns that many unpredictable bytes.
    """

    def __init__(
        self, journal: Journal, clock: Callable[[], float], draw: Callable[[int], bytes]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._draw = draw
        text = journal.setting(_SETTING)
        self._hooks = msgspec.json.decode(text, type=list[Hook]) if text else []

    def all(self) -> list[Hook]:
        """Return them, the oldest first."""
        return list(self._hooks)

    def create(self, name: str) -> str:
        """Return a new token, which is not kept.

        Raises:
            InputError: the name is empty, too long or in use, or there are too many.
        """
        name = name.strip()
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise InputError("Name the program that gets the token, in at most 60 letters.")
        if any(hook.name == name for hook in self._hooks):
            raise InputError(f"There is a token for {name!r} already: revoke it first.")
        if len(self._hooks) >= _MOST:
            raise InputError(f"There are {_MOST} tokens, which is the most: revoke one first.")
        token = _PREFIX + self._draw(_TOKEN_BYTES).hex()
        self._keep([*self._hooks, Hook(name, self._clock(), _digest(token))])
        return token

    def revoke(self, name: str) -> None:
        """End a token.

        Raises:
            InputError: there is none of that name.
        """
        left = [hook for hook in self._hooks if hook.name != name]
        if len(left) == len(self._hooks):
            raise InputError(f"There is no token for {name[:60]!r}: `pleb-agent hook` lists them.")
        self._keep(left)

    def find(self, token: str) -> Hook | None:
        """Return whose token this is; None: nobody's."""
        digest = _digest(token)
        return next((one for one in self._hooks if hmac.compare_digest(one.digest, digest)), None)

    def _keep(self, hooks: list[Hook]) -> None:
        self._journal.set_setting(_SETTING, msgspec.json.encode(hooks).decode())
        self._hooks = hooks


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
