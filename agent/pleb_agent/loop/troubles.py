"""What goes wrong in one project's turn: a sentence, and a time to try again."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pleb_agent.client.errors import NetworkError
from pleb_agent.core.agent_state import Activity
from pleb_agent.core.history import EventKind
from pleb_agent.core.sentence import say
from pleb_agent.loop.attach import enrol_again
from pleb_agent.loop.compute import PutAwayError
from pleb_agent.worker.errors import WorkerError
from pleb_shared.errors import PlebError, Refusal, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pleb_agent.loop.errands import Errands
    from pleb_agent.loop.history import History
    from pleb_agent.loop.parts import Parts
    from pleb_agent.loop.session import Session
    from pleb_agent.loop.status import LiveStatus

__all__ = ["Troubles"]

_LOG: Final = logging.getLogger("pleb.agent")
_FORGOTTEN: Final = frozenset({RefusalCode.UNKNOWN_HOST, RefusalCode.STALE_SEQUENCE})


class Troubles:
    """`on_worker_lost` is called when there is no engine any more."""

    def __init__(
        self,
        parts: Parts,
        status: LiveStatus,
        history: History,
        errands: Errands,
        on_worker_lost: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._status = status
        self._history = history
        self._errands = errands
        self._on_worker_lost = on_worker_lost

    async def guard(self, session: Session, turn: Awaitable[None]) -> None:
        """Take a turn, or a part of one; no error of ours leaves it."""
        try:
            await turn
        except PutAwayError:
            return
        except WorkerError as error:
            self._on_worker_lost()
            self._note(session, error, Activity.PROBLEM)
        except NetworkError as error:
            self._note(session, error, Activity.OFFLINE, error.retry_after_seconds)
        except Refusal as refusal:
            if refusal.code in _FORGOTTEN and not session.failures:
                self._errands.start(session, lambda: self._enrol_again(session))
            else:
                self._note(session, refusal, Activity.PROBLEM, refusal.retry_after_seconds)
        except PlebError as error:
            self._note(session, error, Activity.PROBLEM)

    def _note(
        self,
        session: Session,
        error: PlebError,
        activity: Activity,
        retry_after_seconds: float | None = None,
    ) -> None:
        now = asyncio.get_running_loop().time()
        sentence = say("{project}: {reason}", project=session.name, reason=str(error))
        if session.problem != str(error):  # the first of its kind, not every retry
            self._history.note(EventKind.PROBLEM, sentence, session.name)
        delay = session.failed(str(error), now, self._parts.draw(), retry_after_seconds)
        if self._status.unit is None:
            self._status.set(activity, sentence, self._parts.clock() + delay)
        _LOG.warning(
            "problem", extra={"project": session.name, "problem": str(error), "delay": delay}
        )

    async def _enrol_again(self, session: Session) -> None:
        """The coordinator has forgotten us, or our count: tell it who we are."""
        session.failures += 1
        row = self._parts.journal.project(session.project)
        account = self._parts.keys.load(row.account_key_file)
        try:
            reply = await enrol_again(
                session.client, session.trust, session.host_key, account, self._parts.clock
            )
        except PlebError as error:
            self._note(session, error, Activity.PROBLEM)
        else:
            self._parts.journal.raise_sequence(session.project, reply.sequence, reply.role.value)
