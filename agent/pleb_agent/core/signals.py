"""Signals and the rules on them: what the user has named, where it is read, what it must be.

A signal is a named number: a price, a temperature, watts of the sun, somebody at home. Its address
says where it is read:

    /path/to/a/file                      the number in the file
    https://HOST/PATH                    the number in the answer, or at `pointer` in its JSON
    https://HOST with `entity`           the state of an entity of Home Assistant
    mqtt://[USER@]HOST[:PORT]/TOPIC      the last message of a topic
    sensor:cpu, sensor:fan               this PC's hottest processor in °C, its fastest fan in rpm
    /path/calendar.ics                   1 during an event, 0 between them (RFC 5545)
    hours:mon-fri 22:00-07:00            1 in these hours of the week, 0 outside

A rule is a row: work only when SIGNAL is below or above a number, or during or outside a time. All
rows must allow work, or any of them. What is not known, or old, allows nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec

from pleb_agent.core.schedule import parse_hours

if TYPE_CHECKING:
    from pleb_agent.core.sentence import Sentence

__all__ = [
    "HOURS_PREFIX",
    "MOST_ROWS",
    "MOST_SIGNALS",
    "NO_RULES",
    "SENSOR_PREFIX",
    "Match",
    "Row",
    "Signal",
    "SignalReading",
    "SignalRules",
    "Source",
    "Test",
    "number_of",
    "period_seconds",
]

MOST_SIGNALS: Final = 20
MOST_ROWS: Final = 20
HOURS_PREFIX: Final = "hours:"
SENSOR_PREFIX: Final = "sensor:"
_SENSORS: Final = ("cpu", "fan")
_CALENDAR: Final = ".ics"
_POINTER: Final = re.compile(r"(/([^/~]|~[01])*)*")
_PATH: Final = re.compile(r"[/~\\]|[A-Za-z]:[\\/]")
_TOPIC: Final = re.compile(r"[^+#\0]{1,400}")
_MARGIN: Final = 0.05
"""Of a limit: so much beyond it a number has to be before work resumes, if nothing else is said."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Seconds = Annotated[int, msgspec.Meta(ge=2, le=86_400)]
Number = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class Source(StrEnum):
    """What kind of place an address names."""

    FILE = "file"
    HTTP = "http"
    HOME_ASSISTANT = "home_assistant"
    MQTT = "mqtt"
    SENSOR = "sensor"
    CALENDAR = "calendar"
    HOURS = "hours"

    @property
    def is_of_time(self) -> bool:
        """Whether it is on or off, and not a number."""
        return self in {Source.CALENDAR, Source.HOURS}


@dataclass(frozen=True)
class _Usual:
    every_seconds: int
    old_seconds: int


_USUAL: Final = {
    Source.FILE: _Usual(4, 2 * 3600),
    Source.HTTP: _Usual(60, 15 * 60),
    Source.HOME_ASSISTANT: _Usual(4, 15 * 60),
    Source.MQTT: _Usual(60, 3600),
    Source.SENSOR: _Usual(4, 60),
    Source.CALENDAR: _Usual(30, 86_400),
    Source.HOURS: _Usual(60, 86_400),
}
"""How often each is read, and after what time a value counts as old, unless the user says so."""
_NEAR: Final = re.compile(
    r"(localhost|.*\.(local|lan|home|fritz\.box)|127\..*|10\..*|192\.168\..*"
    r"|172\.(1[6-9]|2\d|3[01])\..*|\[?(::1|f[cd].*|fe80.*))",
    re.IGNORECASE,
)
"""Hosts of this network, which may be asked more often than others."""
_NEAR_SECONDS: Final = 4


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A named number, and where it is read.

    Raises:
        ValueError: its address is not understood, or a part does not belong to it.
    """

    name: Name
    address: Text
    entity: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Of Home Assistant, such as `sensor.price`."""
    pointer: Annotated[str, msgspec.Meta(max_length=300)] = ""
    """Where the number is in a JSON answer (RFC 6901); `{hour}` in it is the hour of the day."""
    word: Annotated[str, msgspec.Meta(max_length=100)] = ""
    """Of a calendar: only events with this word count; empty: events that show as busy."""
    token_file: Text = ""
    """A file that only this user can read: the token of Home Assistant or of an address, or the
    password of MQTT."""
    unit: Annotated[str, msgspec.Meta(max_length=20)] = ""
    every_seconds: Seconds | None = None
    old_seconds: Seconds | None = None
    """A value of this age counts as not known."""

    def __post_init__(self) -> None:
        if self.name != self.name.strip() or not self.name.isprintable():
            raise ValueError("a signal's name has printable letters, and no space at its ends")
        _check_address(self)
        if self.pointer and not _POINTER.fullmatch(self.pointer):
            raise ValueError(
                f"{self.pointer!r} is no JSON pointer: write it as /data/0/price (RFC 6901)"
            )

    @property
    def source(self) -> Source:
        """What kind of place it is read at."""
        if self.address.startswith(HOURS_PREFIX):
            return Source.HOURS
        if self.address.startswith(SENSOR_PREFIX):
            return Source.SENSOR
        if self.address.startswith(("mqtt://", "mqtts://")):
            return Source.MQTT
        if self.address.startswith(("http://", "https://")):
            return Source.HOME_ASSISTANT if self.entity else Source.HTTP
        return Source.CALENDAR if self.address.lower().endswith(_CALENDAR) else Source.FILE

    @property
    def oldest_seconds(self) -> int:
        """The age from which on a value is not believed."""
        usual = _USUAL[self.source].old_seconds
        return self.old_seconds or max(usual, 3 * period_seconds(self))


def _check_address(signal: Signal) -> None:
    source, address = signal.source, signal.address
    match source:
        case Source.HOURS:
            parse_hours(address.removeprefix(HOURS_PREFIX))
        case Source.SENSOR:
            if address.removeprefix(SENSOR_PREFIX) not in _SENSORS:
                raise ValueError("this PC's sensors are sensor:cpu and sensor:fan")
        case Source.FILE | Source.CALENDAR:
            if not _PATH.match(address):
                raise ValueError(
                    f"{address!r} is no address: give a file's whole path, https://..., "
                    "mqtt://..., sensor:cpu, sensor:fan or hours:22:00-07:00"
                )
        case Source.HTTP | Source.HOME_ASSISTANT | Source.MQTT:
            _check_host(address, of_topic=source is Source.MQTT)
    for what, given, sources in (
        ("an entity", signal.entity, _WITH_ENTITY),
        ("a word", signal.word, _WITH_WORD),
        ("a token file", signal.token_file, _WITH_TOKEN),
        ("a JSON pointer", signal.pointer, _WITH_POINTER),
    ):
        if given and source not in sources:
            raise ValueError(f"{what} does not belong to {address!r}")


_WITH_ENTITY: Final = {Source.HOME_ASSISTANT}
_WITH_WORD: Final = {Source.CALENDAR}
_WITH_TOKEN: Final = {Source.HTTP, Source.HOME_ASSISTANT, Source.MQTT}
_WITH_POINTER: Final = {*_WITH_TOKEN, Source.FILE}


def _check_host(address: str, *, of_topic: bool) -> None:
    parts = urlsplit(address)
    if not parts.hostname or parts.port == 0:
        raise ValueError(f"{address!r} names no host: write it as {parts.scheme}://HOST/...")
    if parts.password is not None:
        raise ValueError("a password belongs into a file that only you can read (token file)")
    if of_topic and not _TOPIC.fullmatch(parts.path.lstrip("/")):
        raise ValueError("an MQTT address names one topic: mqtt://HOST/solar/power")


def period_seconds(signal: Signal) -> int:
    """Return how often a signal is read: more often if its host is of this network."""
    if signal.every_seconds is not None:
        return signal.every_seconds
    usual = _USUAL[signal.source].every_seconds
    if signal.source is Source.HTTP and _NEAR.fullmatch(urlsplit(signal.address).hostname or ""):
        return _NEAR_SECONDS
    return usual


class Test(StrEnum):
    """What a row asks of its signal."""

    __test__ = False  # pytest would collect it

    BELOW = "below"
    ABOVE = "above"
    DURING = "during"
    OUTSIDE = "outside"

    @property
    def is_of_time(self) -> bool:
        """Whether it asks for on or off, and not for a number."""
        return self in {Test.DURING, Test.OUTSIDE}


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work only when a signal passes a test.

    Raises:
        ValueError: the numbers do not belong to the test.
    """

    signal: Name
    test: Test
    limit: Number | None = None
    resume: Number | None = None
    """Work that this row has stopped resumes only here; None: 5 % beyond the limit."""

    def __post_init__(self) -> None:
        if self.test.is_of_time:
            if self.limit is not None or self.resume is not None:
                raise ValueError(f"`{self.test.value}` takes no number")
            return
        if self.limit is None or not math.isfinite(self.limit):
            raise ValueError(f"`{self.test.value}` needs a number")
        beyond = None if self.resume is None else (self.resume - self.limit) * self._sign
        if beyond is not None and not beyond <= 0:
            side = "below" if self.test is Test.BELOW else "above"
            raise ValueError(f"work resumes {side} the limit {self.limit:g}, or at it")

    @property
    def _sign(self) -> int:
        return 1 if self.test is Test.BELOW else -1

    @property
    def resume_at(self) -> float:
        """The number beyond which work resumes."""
        limit = self.limit or 0.0
        if self.resume is not None:
            return self.resume
        return float(f"{limit - self._sign * abs(limit) * _MARGIN:.6g}")

    def passes(self, value: float, *, held: bool) -> bool:
        """Whether a value allows work; `held`: this row did not at the last look."""
        if self.test.is_of_time:
            return (value != 0) is (self.test is Test.DURING)
        bound = self.resume_at if held else (self.limit or 0.0)
        return (bound - value) * self._sign > 0


class Match(StrEnum):
    """How rows are combined."""

    ALL = "all"
    ANY = "any"


class SignalRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The user's signals and rows. Raises `ValueError`: they do not fit together."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    signals: Annotated[tuple[Signal, ...], msgspec.Meta(max_length=MOST_SIGNALS)] = ()
    rows: Annotated[tuple[Row, ...], msgspec.Meta(max_length=MOST_ROWS)] = ()
    match: Match = Match.ALL

    def __post_init__(self) -> None:
        names = [signal.name for signal in self.signals]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"there are two signals called {twice!r}")
        for row in self.rows:
            signal = self.find(row.signal)
            if signal is None:
                raise ValueError(f"there is no signal {row.signal!r}")
            if signal.source.is_of_time is not row.test.is_of_time:
                takes = "during or outside" if signal.source.is_of_time else "below or above"
                raise ValueError(f"a row of {row.signal!r} says {takes}")

    def find(self, name: str) -> Signal | None:
        """Return the signal of that name; None: there is none."""
        return next((signal for signal in self.signals if signal.name == name), None)


NO_RULES: Final = SignalRules()


@dataclass(frozen=True)
class SignalReading:
    """What is known of a signal. Times are seconds since 1970."""

    value: float | None = None
    at: float = 0.0
    """When the value held."""
    problem: Sentence | None = None
    """Why it is not known."""
    next_at: float | None = None
    """When it is read again; None: it comes by itself."""
    until: float | None = None
    """When the value will change, if that is known."""

    def value_at(self, signal: Signal, now: float) -> float | None:
        """Return the value if it may still be believed at `now`, else None."""
        return self.value if now - self.at <= signal.oldest_seconds else None


_WORDS: Final = {
    **dict.fromkeys(("on", "true", "yes", "home", "open", "charging", "present"), 1.0),
    **dict.fromkeys(("off", "false", "no", "not_home", "away", "closed", "absent"), 0.0),
}


def number_of(value: object) -> float | None:
    """Return the number that a value is or says; on, home or true is 1; None: it is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        found = float(text.split()[0].replace(",", ".") if text else "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None
