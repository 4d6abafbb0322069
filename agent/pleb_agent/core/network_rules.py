"""May the network be used now, and how fast? Pure; training continues when it may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.core.readings import PowerSource
from pleb_agent.core.schedule import DAY_MINUTES, parse_hours, seconds_to
from pleb_agent.core.sentence import Sentence, say
from pleb_agent.core.sizes import format_bytes
from pleb_system.proxies import NO_PROXY

if TYPE_CHECKING:
    from pleb_agent.core.preferences import Preferences
    from pleb_agent.core.readings import Readings

__all__ = [
    "NetworkDecision",
    "may_share",
    "may_share_on_internet",
    "network",
    "reached_sentence",
]

_USUAL_LOOK_SECONDS: Final = 60.0


@dataclass(frozen=True)
class NetworkDecision:
    """`look_again_seconds`: before that the answer changes by new readings only.

    The rates are those of all transfers of one direction together; None: as fast as it goes.
    """

    allowed: bool
    sentence: Sentence
    download_bytes_per_second: int | None
    upload_bytes_per_second: int | None
    look_again_seconds: float


def network(readings: Readings, preferences: Preferences) -> NetworkDecision:
    """Return the first objection against using the network, or leave to use it."""
    for rule in (_metered, _outside_hours, _used_up):
        objection = rule(readings, preferences)
        if objection is not None:
            return _decision(readings, preferences, *objection, allowed=False)
    sentence = say("The network may be used.")
    return _decision(readings, preferences, sentence, _USUAL_LOOK_SECONDS, allowed=True)


def may_share(readings: Readings, preferences: Preferences) -> bool:
    """Whether neighbours may get blobs from this PC, and it from them."""
    return preferences.lan_sharing and _may_serve(readings, preferences)


def may_share_on_internet(readings: Readings, preferences: Preferences) -> bool:
    """Whether hosts elsewhere may get blobs from this PC, and it from them.

    Not if the user has set a proxy: it may be there to hide this PC's address.
    """
    direct = preferences.proxy in {"", NO_PROXY}
    return preferences.internet_sharing and direct and _may_serve(readings, preferences)


def reached_sentence(port: int, address: str | None) -> Sentence:
    """Say whether other volunteers reach this PC: at `address`; empty: no; None: not known."""
    if address is None:
        return say("Whether other volunteers can reach this PC is not known yet.")
    if address:
        return say(
            "Other volunteers reach this PC at {address}, port {port}.",
            address=address,
            port=str(port),
        )
    return say(
        "Other volunteers cannot reach this PC at port {port}: it gets files from them and gives "
        "none. Let your router or firewall pass that port on if you want to give, too.",
        port=str(port),  # a number would have its thousands set apart
    )


def _may_serve(readings: Readings, preferences: Preferences) -> bool:
    unplugged = readings.power.source in {PowerSource.BATTERY, PowerSource.UPS}
    return network(readings, preferences).allowed and (preferences.on_battery or not unplugged)


Objection = tuple[Sentence, float]


def _metered(readings: Readings, preferences: Preferences) -> Objection | None:
    """An unknown network counts as free: most are, and few systems report it."""
    if preferences.on_metered or not readings.metered:
        return None
    sentence = say("This connection is metered; transfers resume on another one.")
    return sentence, _USUAL_LOOK_SECONDS


def _outside_hours(readings: Readings, preferences: Preferences) -> Objection | None:
    hours = parse_hours(preferences.network_hours)
    minutes = hours.minutes_to_change(readings.local_time)
    if minutes is None or hours.allow(readings.local_time):
        return None
    begins = (readings.local_time.minute + minutes) % DAY_MINUTES
    sentence = say(
        "Outside your network hours; transfers resume at {time}.",
        time=f"{begins // 60:02}:{begins % 60:02}",
    )
    return sentence, seconds_to(minutes, readings.now)


def _used_up(readings: Readings, preferences: Preferences) -> Objection | None:
    """Either cap holds both ways: a unit is not worth fetching if its result cannot be sent."""
    down, up = preferences.download_bytes_per_day, preferences.upload_bytes_per_day
    if down is not None and readings.downloaded_today_bytes >= down:
        sentence = say(
            "Today's download limit of {limit} is used up; transfers resume at midnight.",
            limit=format_bytes(down),
        )
    elif up is not None and readings.uploaded_today_bytes >= up:
        sentence = say(
            "Today's upload limit of {limit} is used up; transfers resume at midnight.",
            limit=format_bytes(up),
        )
    else:
        return None
    return sentence, seconds_to(DAY_MINUTES - readings.local_time.minute, readings.now)


def _decision(
    readings: Readings,
    preferences: Preferences,
    sentence: Sentence,
    look_again_seconds: float,
    *,
    allowed: bool,
) -> NetworkDecision:
    minutes = parse_hours(preferences.network_hours).minutes_to_change(readings.local_time)
    edges = [] if minutes is None else [seconds_to(minutes, readings.now)]
    return NetworkDecision(
        allowed=allowed,
        sentence=sentence,
        download_bytes_per_second=preferences.download_bytes_per_second,
        upload_bytes_per_second=preferences.upload_bytes_per_second,
        look_again_seconds=min([look_again_seconds, *edges]),
    )
