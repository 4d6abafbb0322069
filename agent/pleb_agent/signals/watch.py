"""Follows the user's signals; without signals it costs nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pleb_agent.core.signal_rules import row_states
from pleb_agent.core.signals import SignalReading, Source, period_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pleb_agent.core.schedule import LocalTime
    from pleb_agent.core.sentence import Sentence
    from pleb_agent.core.signals import Row, Signal, SignalRules
    from pleb_agent.signals.history import SignalHistory

__all__ = ["SignalWatch", "look_once"]


class SignalWatch:
    """Reads each signal at its pace. `on_change` is called when a row says something else.

    Args:
        rules: the user's; asked again after `rules_changed`.
        history: what is kept of values.
        on_change: called in the event loop.
        proxy: the preference of that name.
        clock: seconds since 1970.
        local_time: the wall clock at such a time.
    """

    def __init__(
        self,
        rules: Callable[[], SignalRules],
        history: SignalHistory,
        on_change: Callable[[], None],
        *,
        proxy: Callable[[], str],
        clock: Callable[[], float],
        local_time: Callable[[float], LocalTime],
    ) -> None:
        self.latest: dict[str, SignalReading] = {}
        """What is known, by the signal's name."""
        self._rules = rules
        self._history = history
        self._on_change = on_change
        self._proxy = proxy
        self._clock = clock
        self._local_time = local_time
        self._followers: dict[Signal, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._said: dict[Row, bool] = {}

    @property
    def history(self) -> Mapping[str, Mapping[int, float]]:
        """What is kept of earlier values."""
        return self._history.values

    def rules_changed(self) -> None:
        """The user changed the rules."""
        self._changed.set()

    async def run(self) -> None:
        """Follow what there is, until cancelled."""
        try:
            while True:
                self._changed.clear()
                self._follow_all()
                await self._changed.wait()
        finally:
            followers = list(self._followers.values())
            for task in followers:
                task.cancel()
            await asyncio.gather(*followers, return_exceptions=True)
            self._history.write()

    def _follow_all(self) -> None:
        rules = self._rules()
        wanted = {signal for signal in rules.signals if signal.source is not Source.HOURS}
        for signal in [one for one in self._followers if one not in wanted]:
            self._followers.pop(signal).cancel()
            self.latest.pop(signal.name, None)
        for signal in wanted - self._followers.keys():
            self._followers[signal] = asyncio.create_task(self._follow(signal))
        if self.latest or wanted:
            self._history.keep_only({signal.name for signal in rules.signals})
        self._on_change()

    async def _follow(self, signal: Signal) -> None:
        if signal.source is Source.MQTT:
            await self._listen(signal)
        elif signal.source is Source.CALENDAR:
            await self._follow_calendar(signal)
        else:
            await self._poll(signal)

    async def _poll(self, signal: Signal) -> None:
        from pleb_agent.signals.read import SignalError, SignalReader

        reader, period = SignalReader(signal, self._proxy()), period_seconds(signal)
        try:
            while True:
                hour = self._local_time(self._clock()).minute // 60
                try:
                    value, written = await asyncio.to_thread(reader.read, hour)
                except SignalError as error:
                    self._note(signal, SignalReading(problem=error.sentence), period)
                else:
                    now = self._clock()
                    at = now if written is None else min(written, now)
                    self._note(signal, SignalReading(value, at), period)
                await asyncio.sleep(period)
        finally:
            reader.close()

    async def _follow_calendar(self, signal: Signal) -> None:
        from pleb_agent.signals.calendar import CalendarReader
        from pleb_agent.signals.read import SignalError

        reader, period = CalendarReader(signal), period_seconds(signal)
        while True:
            wait: float = period
            try:
                found = await asyncio.to_thread(reader.read, self._clock())
            except SignalError as error:
                self._note(signal, SignalReading(problem=error.sentence), period)
            else:
                self._note(signal, found, period)
                if found.until is not None:
                    wait = min(wait, max(0.1, found.until - self._clock()))
            await asyncio.sleep(wait)

    async def _listen(self, signal: Signal) -> None:
        from pleb_agent.signals.mqtt import MqttTopic
        from pleb_agent.signals.read import SignalError

        loop = asyncio.get_running_loop()

        def on_value(value: float) -> None:
            loop.call_soon_threadsafe(self._note_now, signal, value)

        def on_problem(sentence: Sentence) -> None:
            reading = SignalReading(problem=sentence)
            loop.call_soon_threadsafe(self._note, signal, reading, None)

        def hour() -> int:
            return self._local_time(self._clock()).minute // 60

        topic = MqttTopic(signal, on_value, on_problem, hour)
        while True:
            try:
                topic.start()
                break
            except SignalError as error:
                period = period_seconds(signal)
                self._note(signal, SignalReading(problem=error.sentence), period)
                await asyncio.sleep(period)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(topic.stop)

    def _note_now(self, signal: Signal, value: float) -> None:
        self._note(signal, SignalReading(value, self._clock()), None)

    def _note(self, signal: Signal, reading: SignalReading, period: float | None) -> None:
        """Keep what was read; tell if a row says something else because of it."""
        if signal not in self._followers:
            return  # an answer that came after the user had removed it
        now = self._clock()
        if period is not None:
            reading = replace(reading, next_at=now + period)
        self.latest[signal.name] = reading
        if reading.value is not None:
            self._history.note(signal.name, reading.value, now)
        rules = self._rules()
        held = {row for row, allowed in self._said.items() if not allowed}
        states = row_states(rules, self.latest, held, now, self._local_time(now))
        said = {state.row: state.allows for state in states}
        if said != self._said:
            self._said = said
            self._on_change()


def look_once(signal: Signal, *, proxy: str, now: float, hour: int, seconds: float) -> float:
    """Return a signal's number now, for "read now"; blocks.

    Raises:
        SignalError: there is none; of MQTT also: no message came in `seconds`.
    """
    from pleb_agent.signals.read import SignalError, SignalReader

    if signal.source is Source.CALENDAR:
        from pleb_agent.signals.calendar import CalendarReader

        return CalendarReader(signal).read(now).value or 0.0
    if signal.source is not Source.MQTT:
        reader = SignalReader(signal, proxy)
        try:
            return reader.read(hour)[0]
        finally:
            reader.close()
    from pleb_agent.signals.mqtt import MqttTopic

    values: list[float] = []
    problems: list[Sentence] = []
    topic = MqttTopic(signal, values.append, problems.append, lambda: hour)
    topic.start()
    end = time.monotonic() + seconds
    with suppress(IndexError):
        while time.monotonic() < end and not values:
            time.sleep(0.05)
    topic.stop()
    if values:
        return values[-1]
    if problems:
        raise SignalError(problems[-1])
    raise SignalError("No message came in {seconds} s.", seconds=seconds)
