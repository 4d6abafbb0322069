"""What the user allows: each preference is declared once, with its bounds, words and unit.

The command line, the page, docs/preferences.md and the list for translators are derived from these
declarations by `preference_table`.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import msgspec

from pleb_agent.core.devices import kind_of
from pleb_agent.core.languages import LANGUAGES, known_language
from pleb_agent.core.schedule import parse_hours
from pleb_system.proxies import NO_PROXY, proxy_url

__all__ = [
    "HOURS",
    "LANGUAGE",
    "PROXY",
    "SIGNAL",
    "VERSION",
    "Group",
    "Notifications",
    "Preferences",
    "check_language",
    "check_proxy",
    "check_signal",
    "default_preferences",
]

VERSION: Final = 3
HOURS: Final = "hours"
"""The unit of texts that `schedule.parse_hours` reads."""
LANGUAGE: Final = "language"
"""The unit of texts that `check_language` accepts."""
PROXY: Final = "proxy"
"""The unit of texts that `check_proxy` accepts."""
SIGNAL: Final = "signal"
"""The unit of texts that `check_signal` accepts."""


class Group(StrEnum):
    """The sections in which preferences are listed, by their headings."""

    WHEN = "When it works"
    HOW_MUCH = "How much it takes"
    NETWORK = "Network"
    PROJECTS = "Project shares"
    NOTIFICATIONS = "Notifications and language"


Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
Charge = Annotated[int, msgspec.Meta(ge=0, le=100)]
Minutes = Annotated[float, msgspec.Meta(ge=0, le=24 * 60)]
Celsius = Annotated[int, msgspec.Meta(ge=30, le=120)]
Cores = Annotated[int, msgspec.Meta(ge=1, le=4096)]
Watts = Annotated[float, msgspec.Meta(ge=0.1, le=500)]
CardWatts = Annotated[float, msgspec.Meta(ge=1, le=2000)]
Grams = Annotated[float, msgspec.Meta(ge=0, le=5000)]
Tagged = Annotated[str, msgspec.Meta(max_length=60)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Bytes = Annotated[int, msgspec.Meta(ge=2**20, le=2**44)]
BytesOrZero = Annotated[int, msgspec.Meta(ge=0, le=2**44)]
Port = Annotated[int, msgspec.Meta(ge=1024, le=65535)]
Rate = Annotated[int, msgspec.Meta(ge=1024, le=2**40)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Names = Annotated[list[Name], msgspec.Meta(max_length=200)]
HoursText = Annotated[str, msgspec.Meta(max_length=1000)]
Tag = Annotated[str, msgspec.Meta(max_length=35)]
Address = Annotated[str, msgspec.Meta(max_length=500)]


def _about(
    group: Group,
    title: str,
    description: str,
    *,
    unit: str = "",
    none: str = "",
    example: str = "",
    gpu: bool = False,
    needs: str = "",
) -> msgspec.Meta:
    """Return a preference's words.

    Args:
        group: where it is listed.
        title: the label of its control.
        description: one sentence for people.
        unit: of its number; of bytes and rates, the one in which the page edits them.
        none: what it means to set nothing, where that is allowed.
        example: a value as a person types it; empty: the default.
        gpu: it matters only on a machine with a GPU.
        needs: the switch without which it has no effect; empty: none.
    """
    extra = {"group": group, "unit": unit, "none": none, "example": example, "gpu": gpu}
    extra["needs"] = needs
    return msgspec.Meta(title=title, description=description, extra=extra)


_when = partial(_about, Group.WHEN)
_how_much = partial(_about, Group.HOW_MUCH)
_network = partial(_about, Group.NETWORK)
_projects = partial(_about, Group.PROJECTS)
_notifications = partial(_about, Group.NOTIFICATIONS)


class Notifications(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events may show a notification."""

    first_accepted: Annotated[
        bool,
        _notifications("My first unit counts", "Notify me once, when my first unit is accepted."),
    ] = True
    problem: Annotated[
        bool,
        _notifications(
            "Something needs my attention", "Notify me when the agent cannot continue by itself."
        ),
    ] = True
    update: Annotated[
        bool,
        _notifications("A new release", "Notify me when a new version of the agent is available."),
    ] = False


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The user's limits, in the order in which people see them.

    Raises:
        ValueError: hours or a device that are not understood (msgspec turns it into its own error).
    """

    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION

    while_in_use: Annotated[
        bool,
        _when(
            "Work while I use the PC",
            "Uses the smaller shares below. Off: works only while the PC is idle.",
        ),
    ] = False
    idle_minutes: Annotated[
        Minutes,
        _when(
            "Counts as in use for",
            "The PC counts as in use for this long after the last key or mouse movement.",
            unit="min",
        ),
    ] = 3.0
    hours: Annotated[
        HoursText,
        _when(
            "Working hours",
            "Work only in these hours of the week; empty: always.",
            example="mon-fri 20:00-08:00; sat,sun 00:00-24:00",
            unit=HOURS,
        ),
    ] = ""
    learn_habits: Annotated[
        bool,
        _when(
            "Fit work to my habits",
            "Lets projects know how long this PC usually stays free, so they give shorter units.",
        ),
    ] = True
    on_battery: Annotated[
        bool, _when("Work on battery", "Off: only while the PC is plugged in.")
    ] = False
    battery_percent: Annotated[
        Charge,
        _when(
            "Lowest charge",
            "Where work on battery is allowed, it stops below this charge.",
            unit="%",
            needs="on_battery",
        ),
    ] = 60
    cpu_others_percent: Annotated[
        Percent | None,
        _when(
            "Pause when other programs use",
            "Pause while other programs use more of the CPU than this.",
            unit="%",
            none="never pause, only give way",
        ),
    ] = 60
    gpu_others_percent: Annotated[
        Percent | None,
        _when(
            "Pause a card when other programs use it",
            "A card pauses while other programs use more of it than this.",
            unit="%",
            none="never pause",
            gpu=True,
            needs="use_gpu",
        ),
    ] = 25
    pause_on_fullscreen: Annotated[
        bool,
        _when(
            "Pause for fullscreen", "Pause while a film, a game or a presentation fills the screen."
        ),
    ] = True
    pause_programs: Annotated[
        Names,
        _when("Pause for programs", "Pause while one of these programs runs.", example="+steam"),
    ] = []
    gpu_pause_programs: Annotated[
        Names,
        _when(
            "Pause the cards for programs",
            "The cards pause while one of these programs runs; the CPU works on.",
            example="+blender",
            gpu=True,
            needs="use_gpu",
        ),
    ] = []
    gpu_hottest_celsius: Annotated[
        Celsius | None,
        _when(
            "Highest temperature of a card",
            "Near it a card rests more and more, and at it, it pauses.",
            unit="°C",
            none="leave it to the card",
            gpu=True,
            needs="use_gpu",
        ),
    ] = 80
    hottest_celsius: Annotated[
        Celsius | None,
        _when(
            "Highest temperature",
            "Pause when the PC gets this hot, until it has cooled down by 8 degrees.",
            unit="°C",
            none="leave it to the PC",
        ),
    ] = 90
    keep_awake: Annotated[
        bool, _when("Keep the PC awake", "Keep the PC from going to sleep while it computes.")
    ] = False

    threads: Annotated[Cores, _how_much("Cores", "How many cores the worker may use.")] = 1
    cpu_percent_in_use: Annotated[
        Percent,
        _how_much(
            "CPU share while in use", "Share of these cores' time while you use the PC.", unit="%"
        ),
    ] = 50
    cpu_percent_idle: Annotated[
        Percent,
        _how_much(
            "CPU share when idle",
            "Share of these cores' time while the PC is idle. Less is cooler and quieter.",
            unit="%",
        ),
    ] = 100
    use_gpu: Annotated[
        bool,
        _how_much(
            "Use graphics cards",
            "Let cards compute too, each next to the CPU; PyTorch for them is a download.",
            gpu=True,
        ),
    ] = False
    devices_off: Annotated[
        Names,
        _how_much(
            "Devices that stay free",
            "These never compute: the CPU, or single cards.",
            example="+cuda-0",
            gpu=True,
        ),
    ] = []
    gpu_percent_in_use: Annotated[
        Percent,
        _how_much(
            "GPU share while in use",
            "Share of a card's time while you use the PC, where that is allowed.",
            unit="%",
            gpu=True,
            needs="use_gpu",
        ),
    ] = 20
    gpu_percent_idle: Annotated[
        Percent,
        _how_much(
            "GPU share when idle",
            "Share of a card's time while the PC is idle. Less is cooler and quieter.",
            unit="%",
            gpu=True,
            needs="use_gpu",
        ),
    ] = 100
    device_shares: Annotated[
        dict[Name, Percent],
        _how_much(
            "Shares of single devices",
            "The most that one device gives, whatever the shares above say.",
            example="50",
            unit="%",
            gpu=True,
        ),
    ] = {}
    memory_bytes_in_use: Annotated[
        Bytes | None,
        _how_much(
            "Memory while in use",
            "The most memory that the worker may use while you use the PC.",
            example="2GB",
            unit="GB",
            none="a quarter of all",
        ),
    ] = None
    memory_bytes_idle: Annotated[
        Bytes | None,
        _how_much(
            "Memory when idle",
            "The most memory that the worker may use while the PC is idle.",
            example="4GB",
            unit="GB",
            none="half of all",
        ),
    ] = None
    cache_bytes: Annotated[
        Bytes, _how_much("Disk", "The most disk space that project data may use.", unit="GB")
    ] = 10 * 2**30
    keep_free_bytes: Annotated[
        BytesOrZero,
        _how_much(
            "Free disk space to keep", "Stop when less disk space than this is free.", unit="GB"
        ),
    ] = 2**30
    nice: Annotated[bool, _how_much("Low priority", "Every other program gets the CPU first.")] = (
        True
    )
    watts_per_thread: Annotated[
        Watts, _how_much("Power per core", "Power of a busy core, for energy estimates.", unit="W")
    ] = 8.0
    watts_per_card: Annotated[
        CardWatts,
        _how_much(
            "Power per card",
            "Power of a busy graphics card, for energy estimates.",
            unit="W",
            gpu=True,
            needs="use_gpu",
        ),
    ] = 150.0
    watt_meter: Annotated[
        Tagged,
        _how_much(
            "Power meter",
            "A signal that says how many watts this PC takes; used while no card computes.",
            example="Plug",
            unit=SIGNAL,
        ),
    ] = ""
    co2_grams_per_kwh: Annotated[
        Grams,
        _how_much(
            "CO2 of a kWh",
            "What a kWh of your region causes, for receipts; 0: receipts leave it out.",
            unit="g",
        ),
    ] = 0.0

    network_hours: Annotated[
        HoursText,
        _network(
            "Network hours",
            "Use the network only in these hours of the week; empty: always.",
            example="mon-sun 22:00-06:00",
            unit=HOURS,
        ),
    ] = ""
    on_metered: Annotated[
        bool,
        _network(
            "Use metered networks",
            "Transfer data over connections that charge by volume, such as a phone's hotspot.",
        ),
    ] = False
    lan_sharing: Annotated[
        bool,
        _network(
            "Share on the local network",
            "PCs of one project on this network get its files from each other, "
            "so they come in once.",
        ),
    ] = True
    internet_sharing: Annotated[
        bool,
        _network(
            "Share with other volunteers",
            "Get and give project files over the internet; others then see this PC's address.",
        ),
    ] = False
    internet_port: Annotated[
        Port | None,
        _network(
            "Port for other volunteers",
            "Where they reach this PC; a router or firewall may have to let it through.",
            example="7530",
            none="any free one",
        ),
    ] = None
    download_bytes_per_second: Annotated[
        Rate | None,
        _network(
            "Download speed",
            "Limit for all downloads together.",
            example="500KB/s",
            unit="KB/s",
            none="no limit",
        ),
    ] = None
    upload_bytes_per_second: Annotated[
        Rate | None,
        _network(
            "Upload speed",
            "Limit for all uploads together.",
            example="100KB/s",
            unit="KB/s",
            none="no limit",
        ),
    ] = None
    download_bytes_per_day: Annotated[
        Bytes | None,
        _network(
            "Downloads per day",
            "Once this much is downloaded, the agent stays off the network until midnight.",
            example="2GB",
            unit="MB",
            none="no limit",
        ),
    ] = None
    upload_bytes_per_day: Annotated[
        Bytes | None,
        _network(
            "Uploads per day",
            "Once this much is uploaded, the agent stays off the network until midnight.",
            example="500MB",
            unit="MB",
            none="no limit",
        ),
    ] = None
    proxy: Annotated[
        Address,
        _network(
            "Proxy",
            "Empty: the system's proxy; `none`: no proxy; otherwise its address.",
            example="http://proxy.example:3128",
            unit=PROXY,
        ),
    ] = ""

    shares: Annotated[
        dict[Name, Weight],
        _projects(
            "Project shares",
            "A project with 200 gets twice the time of one with 100, the default.",
            example="200",
        ),
    ] = {}

    notifications: Notifications = Notifications()
    language: Annotated[
        Tag,
        _notifications(
            "Language",
            "Language of the page, tray and notifications; empty: as the browser and the session.",
            example="de",
            unit=LANGUAGE,
        ),
    ] = ""

    def __post_init__(self) -> None:
        parse_hours(self.hours)
        parse_hours(self.network_hours)
        for device in (*self.devices_off, *self.device_shares):
            kind_of(device)
        check_language(self.language)
        check_proxy(self.proxy)
        check_signal(self.watt_meter)


def check_language(tag: str) -> None:
    """Raise `ValueError` unless there is a translation, or nothing is chosen."""
    if tag and known_language(tag) is None:
        names = ", ".join(f"{one} ({name})" for one, name in LANGUAGES.items())
        raise ValueError(f"it is none of {names}")


def check_proxy(text: str) -> None:
    """Raise `ValueError` unless it is the address of a proxy, `none`, or nothing."""
    if text not in {"", NO_PROXY}:
        proxy_url(text)


def default_preferences(cores: int, fast_cores: int | None = None) -> Preferences:
    """Return what holds until the user says otherwise: half the cores, at least one.

    No more than the fast ones, where there are slow ones too: threads share their work equally,
    and the slowest would hold up all.
    """
    half = max(1, cores // 2)
    return Preferences(threads=half if fast_cores is None else max(1, min(half, fast_cores)))


def check_signal(name: str) -> None:
    """Raise `ValueError` unless a signal may have that name, or nothing is chosen."""
    if name != name.strip() or not name.isprintable():
        raise ValueError("a signal's name has printable letters, and no space at its ends")
