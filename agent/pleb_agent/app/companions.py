"""What runs next to agentd's loop: for the unit, the session, the tray, and notifications."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.override import OverrideKind
from pleb_agent.core.readings import PresenceKind
from pleb_agent.core.sentence import say
from pleb_agent.desktop.display import display_is_there
from pleb_agent.desktop.notify import notifier as desktop_notifier
from pleb_agent.translation.words import choose_language, words_for
from pleb_shared.protocol.shown import shown
from pleb_system.backoff import Backoff, Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_agent.control.live_preferences import LivePreferences
    from pleb_agent.control.notifier import ChangeNotifier
    from pleb_agent.control.overrides import Overrides
    from pleb_agent.core.preferences import Notifications, Preferences
    from pleb_agent.core.readings import Presence
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.desktop.display import Address
    from pleb_agent.desktop.notify import Notifier
    from pleb_agent.loop.side_by_side import SideBySide
    from pleb_agent.sensors.keep_awake import KeepAwake
    from pleb_agent.sensors.presence import PresenceSensor
    from pleb_agent.updates.releases import Release

__all__ = ["UnitWatch", "UserNotifier", "is_wanted", "keep_tray", "watch_clock", "watch_session"]

_CLOCK_LOOK_SECONDS: Final = 20.0
_CLOCK_STEP_SECONDS: Final = 5.0
"""More than a clock that is corrected bit by bit moves in that time."""
_LOG: Final = logging.getLogger("pleb.agent")
_CHECKPOINT_SECONDS: Final = 4.5
"""logind waits five seconds before it lets the machine sleep."""
_CHECKS: Final = 3
_RESTART: Final = Backoff(first_seconds=2.0, longest_seconds=300.0)
_EXIT_SECONDS: Final = 2.0
_MOST_NOTIFICATIONS: Final = 5
"""That wait to be shown; more are dropped."""
_TITLE: Final = "Pleb-Cluster"


@dataclass(frozen=True)
class UnitWatch:
    """Follows the loop through the notifier; does not poll."""

    loop: SideBySide
    notifier: ChangeNotifier
    live: LivePreferences

    async def keep_awake(self, awake: KeepAwake) -> None:
        """Keep the machine awake while a unit is computed, if the user wants that."""
        try:
            async for computing in self.notifier.values(lambda: self.loop.is_computing):
                await awake.follow(wanted=computing and self.live.current.keep_awake)
        finally:
            await awake.follow(wanted=False)

    async def finish_then_pause(self, overrides: Overrides, is_open: Callable[[], bool]) -> None:
        """Pause as soon as all that is in hand is done, if the user wants that.

        `is_open`: whether there is still a unit to finish or to deliver.
        """

        def is_done() -> bool:
            return overrides.in_force.kind is OverrideKind.FINISH and not is_open()

        async for done in self.notifier.values(is_done):
            if done:
                overrides.pause(None)
                self.loop.changed()
                self.notifier.notify()

    async def watch_closely(self, presence: PresenceSensor) -> None:
        """Poll for input often while a unit is computed, where input has to be polled."""
        async for computing in self.notifier.values(lambda: self.loop.is_computing):
            presence.watch_closely(computing)

    async def until_checkpoint(self) -> None:
        """Return when every unit has its checkpoint, which the policy has asked for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECKPOINT_SECONDS):
                async for unit in self.notifier.values(lambda: self.loop.status.unit or False):
                    if not unit:
                        return


async def watch_session(
    address: Address,
    presence: Callable[[], Presence],
    stop: Callable[[], None],
    *,
    seconds: float = 15.0,
    is_there: Callable[[Address], bool] = display_is_there,
) -> None:
    """Stop the agent when its desktop session's display is gone; the next session starts it again.

    An agent that outlived its session would watch a display that is gone: the PC would always count
    as in use, and the next session's agent could not start. Checks only while input cannot be read.

    Args:
        address: of the display.
        presence: called at each check.
        stop: called when the display was gone three times in a row.
        seconds: between checks.
        is_there: a blocking check of the display.
    """
    missed = 0
    while missed < _CHECKS:
        await asyncio.sleep(seconds)
        unreadable = presence().kind is PresenceKind.UNREADABLE
        gone = unreadable and not await asyncio.to_thread(is_there, address)
        missed = missed + 1 if gone else 0
    _LOG.info("session", extra={"ended": True})
    stop()


async def watch_clock(
    changed: Callable[[], None],
    clock: Callable[[], float],
    steady: Callable[[], float],
    seconds: float = _CLOCK_LOOK_SECONDS,
) -> None:
    """Call `changed` soon after the clock was set, or the PC has slept.

    What failed because of a wrong clock is tried again at once, and no sentence about it stays.

    Args:
        changed: looks at everything again.
        clock: seconds since 1970.
        steady: seconds that setting the clock does not change.
        seconds: how often to look.
    """
    ahead = clock() - steady()
    while True:
        await asyncio.sleep(seconds)
        now = clock() - steady()
        if abs(now - ahead) >= _CLOCK_STEP_SECONDS:
            _LOG.info("clock", extra={"set_by": round(now - ahead)})
            changed()
        ahead = now


async def keep_tray(command: Sequence[str]) -> None:
    """Restart the tray's process when it dies, with growing delays; it holds no state.

    It exits with 0 when it is not wanted: the user chose Quit, or there is no tray.
    """
    restarts = Restarts(_RESTART)
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            code = await process.wait()
        finally:
            await _stop(process)
        if code == 0:
            return
        _LOG.info("tray", extra={"exit_code": code})
        await asyncio.sleep(restarts.delay_seconds(loop.time() - began))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _EXIT_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def is_wanted(kind: EventKind, wanted: Notifications) -> bool:
    """Whether the user wants a notification of an event of this kind; most have no switch."""
    return bool(getattr(wanted, kind.value, False))


class UserNotifier:
    """Desktop notifications, one at a time, and only for events that the user asked for.

    `consider` never waits; `run` shows notifications, in a thread.
    `session_language` is called in that thread, if the user has chosen no language.
    """

    def __init__(
        self,
        preferences: Callable[[], Preferences],
        session_language: Callable[[], str],
        desktop: Notifier | None = None,
    ) -> None:
        self._preferences = preferences
        self._session_language = session_language
        self._desktop = desktop or desktop_notifier()
        self._waiting: asyncio.Queue[Sentence] = asyncio.Queue(_MOST_NOTIFICATIONS)

    def consider(self, event: Event) -> None:
        """Show an event, if the user wants that."""
        self._enqueue(event.kind, event.sentence)

    def release(self, release: Release) -> None:
        """Show that there is a newer release, if the user wants that."""
        self._enqueue(EventKind.UPDATE, say(release.sentence))

    async def run(self) -> None:
        """Show notifications until cancelled."""
        while True:
            sentence = await self._waiting.get()
            try:
                await asyncio.to_thread(self._show, sentence)
            except OSError as error:
                _LOG.info("notification", extra={"problem": str(error)})

    def _enqueue(self, kind: EventKind, sentence: Sentence) -> None:
        if is_wanted(kind, self._preferences().notifications) and not self._waiting.full():
            self._waiting.put_nowait(sentence)

    def _show(self, sentence: Sentence) -> None:
        chosen = self._preferences().language or self._session_language()
        words = words_for(choose_language(chosen, ""))
        self._desktop.show(_TITLE, shown(words.sentence(sentence, fallback=str(sentence))))
