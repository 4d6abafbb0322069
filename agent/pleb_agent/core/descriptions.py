"""What each preference is, in words: for `prefs list`, for the page and for errors. It is data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["PREFERENCES", "Group", "Info", "Kind"]


class Group(StrEnum):
    """Where a preference stands on the page."""

    WHEN = "when"
    HOW_MUCH = "how much"
    NETWORK = "network"
    PROJECTS = "projects"
    NOTIFICATIONS = "notifications"


class Kind(StrEnum):
    """How a value is written and which control edits it."""

    FLAG = "flag"
    NUMBER = "number"
    BYTES = "bytes"
    RATE = "rate"
    HOURS = "hours"
    NAMES = "names"
    WEIGHTS = "weights"
    TEXT = "text"


@dataclass(frozen=True)
class Info:
    """One preference. `none`: what it means to set nothing, where that is allowed."""

    name: str
    group: Group
    kind: Kind
    label: str
    help: str
    example: str
    unit: str = ""
    none: str = ""


_WHEN, _MUCH, _NET = Group.WHEN, Group.HOW_MUCH, Group.NETWORK
_TOLD: Final = Group.NOTIFICATIONS

PREFERENCES: Final[tuple[Info, ...]] = (
    Info(
        "while_in_use",
        _WHEN,
        Kind.FLAG,
        "Work while I use the PC",
        "With the smaller shares below; off: only when nobody touches the PC.",
        "off",
    ),
    Info(
        "idle_minutes",
        _WHEN,
        Kind.NUMBER,
        "Counts as in use for",
        "So long after the last key or mouse move the PC counts as in use.",
        "5",
        unit="min",
    ),
    Info(
        "hours",
        _WHEN,
        Kind.HOURS,
        "Hours of work",
        "The hours of the week in which work is allowed; empty: always.",
        "mon-fri 20:00-08:00; sat,sun 00:00-24:00",
    ),
    Info(
        "on_battery",
        _WHEN,
        Kind.FLAG,
        "Work on battery",
        "Off: only while the PC is plugged in.",
        "off",
    ),
    Info(
        "battery_percent",
        _WHEN,
        Kind.NUMBER,
        "Lowest charge",
        "Where work on battery is allowed: it stops below this charge.",
        "60",
        unit="%",
    ),
    Info(
        "cpu_others_percent",
        _WHEN,
        Kind.NUMBER,
        "Pause when others use",
        "Hold still while other programs use more of the processors than this.",
        "60",
        unit="%",
        none="never pause for it, only give way",
    ),
    Info(
        "gpu_others_percent",
        _WHEN,
        Kind.NUMBER,
        "Pause when others use the GPU",
        'The same for the graphics processor, which is watched with "Use the GPU".',
        "25",
        unit="%",
        none="never pause for it",
    ),
    Info(
        "pause_on_fullscreen",
        _WHEN,
        Kind.FLAG,
        "Pause for fullscreen",
        "Hold still while a film, a game or a talk fills the screen.",
        "on",
    ),
    Info(
        "pause_programs",
        _WHEN,
        Kind.NAMES,
        "Pause for programs",
        "Hold still while one of these programs runs.",
        "+steam",
    ),
    Info(
        "hottest_celsius",
        _WHEN,
        Kind.NUMBER,
        "Highest temperature",
        "Hold still when the PC gets this hot, until it is 8 degrees cooler.",
        "85",
        unit="°C",
        none="leave that to the PC",
    ),
    Info(
        "keep_awake",
        _WHEN,
        Kind.FLAG,
        "Keep the PC awake",
        "Do not let it fall asleep while it computes.",
        "off",
    ),
    Info(
        "threads",
        _MUCH,
        Kind.NUMBER,
        "Cores",
        "How many cores the worker may use.",
        "2",
    ),
    Info(
        "cpu_percent_in_use",
        _MUCH,
        Kind.NUMBER,
        "Share of the cores in use",
        "How much of these cores' time it takes while you use the PC.",
        "50",
        unit="%",
    ),
    Info(
        "cpu_percent_idle",
        _MUCH,
        Kind.NUMBER,
        "Share of the cores when idle",
        "How much of these cores' time it takes while nobody does. Less is cooler and quieter.",
        "100",
        unit="%",
    ),
    Info(
        "use_gpu",
        _MUCH,
        Kind.FLAG,
        "Use the GPU",
        "This version computes on the processor alone: for now the GPU is only watched.",
        "off",
    ),
    Info(
        "gpu_percent_in_use",
        _MUCH,
        Kind.NUMBER,
        "Share of the GPU in use",
        "For later, while you use the PC: this version takes nothing of the GPU.",
        "20",
        unit="%",
    ),
    Info(
        "gpu_percent_idle",
        _MUCH,
        Kind.NUMBER,
        "Share of the GPU when idle",
        "For later, while nobody does: this version takes nothing of the GPU.",
        "100",
        unit="%",
    ),
    Info(
        "memory_bytes_in_use",
        _MUCH,
        Kind.BYTES,
        "Memory in use",
        "The most memory that the worker may hold while you use the PC.",
        "2GB",
        none="a quarter of all",
    ),
    Info(
        "memory_bytes_idle",
        _MUCH,
        Kind.BYTES,
        "Memory when idle",
        "The most memory that the worker may hold while nobody does.",
        "4GB",
        none="half of all",
    ),
    Info(
        "cache_bytes",
        _MUCH,
        Kind.BYTES,
        "Disk",
        "How much of the disk the projects' data may fill.",
        "10GB",
    ),
    Info(
        "keep_free_bytes",
        _MUCH,
        Kind.BYTES,
        "Disk left to me",
        "Stop working when less of the disk is free than this.",
        "1GB",
    ),
    Info(
        "nice",
        _MUCH,
        Kind.FLAG,
        "Give way",
        "Every other program comes first, also while the worker computes.",
        "on",
    ),
    Info(
        "watts_per_thread",
        _MUCH,
        Kind.NUMBER,
        "Power of a core",
        "What a busy core takes, for the estimates of energy.",
        "8",
        unit="W",
    ),
    Info(
        "network_hours",
        _NET,
        Kind.HOURS,
        "Hours of the network",
        "When data may be exchanged, written as the hours of work; empty: always.",
        "mon-sun 22:00-06:00",
    ),
    Info(
        "on_metered",
        _NET,
        Kind.FLAG,
        "Use metered networks",
        "Exchange data over a phone's hotspot and others that count bytes.",
        "off",
    ),
    Info(
        "download_bytes_per_second",
        _NET,
        Kind.RATE,
        "Download speed",
        "The most that downloads may take of the line.",
        "500KB/s",
        none="as fast as it goes",
    ),
    Info(
        "upload_bytes_per_second",
        _NET,
        Kind.RATE,
        "Upload speed",
        "The most that uploads may take of the line.",
        "100KB/s",
        none="as fast as it goes",
    ),
    Info(
        "download_bytes_per_day",
        _NET,
        Kind.BYTES,
        "Downloads a day",
        "After so much the agent is off the network until midnight.",
        "2GB",
        none="no end",
    ),
    Info(
        "upload_bytes_per_day",
        _NET,
        Kind.BYTES,
        "Uploads a day",
        "After so much the agent is off the network until midnight.",
        "500MB",
        none="no end",
    ),
    Info(
        "proxy",
        _NET,
        Kind.TEXT,
        "Proxy",
        "Empty: the system's; `none`: no proxy; else its address.",
        "http://proxy.example:3128",
    ),
    Info(
        "shares",
        Group.PROJECTS,
        Kind.WEIGHTS,
        "Shares of projects",
        "A project with 200 gets twice the time of one with 100, the usual.",
        "200",
    ),
    Info(
        "notifications.first_accepted",
        _TOLD,
        Kind.FLAG,
        "My first unit counts",
        "Tell me once, when the first unit was accepted.",
        "on",
    ),
    Info(
        "notifications.problem",
        _TOLD,
        Kind.FLAG,
        "Something needs me",
        "Tell me when the agent cannot go on by itself.",
        "off",
    ),
    Info(
        "notifications.update",
        _TOLD,
        Kind.FLAG,
        "A new release",
        "Tell me when there is a newer agent.",
        "off",
    ),
    Info(
        "language",
        _TOLD,
        Kind.TEXT,
        "Language",
        "Of the page, the tray and the notifications; empty: as the browser and the session.",
        "de",
    ),
)
"""Every preference but the version, in the order in which people see them."""
