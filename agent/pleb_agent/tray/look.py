"""From agentd's status to what the tray shows: icon, tooltip and menu. Pure.

The status is the JSON of `control.views.StatusView`, read leniently, since the agentd behind it may
be older or newer than this tray. The menu is one fixed tree; what does not apply is hidden, so
that most changes are changes of an entry and an open menu need not be rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple

__all__ = [
    "NAME",
    "PROGRESS",
    "REQUESTS",
    "Command",
    "Entry",
    "Look",
    "State",
    "Translate",
    "entries",
    "look_of",
    "shortened",
]

NAME: Final = "Pleb-Cluster"

PROGRESS: Final = 2
"""The number of the one entry that changes all the time while a unit is computed."""
_NOTICE: Final = 16
"""The number of a line that says what a user may want to know of a project."""

_SPACES: Final = "\u00a0\u202f"  # by number: compiling names loads unicodedata, 1 MB

LONGEST_LINE: Final = 60
"""Letters of the menu's first line."""

Status = dict[str, Any]
Translate = Callable[..., str]
"""(template, **values) -> the sentence in the user's language."""


class State(StrEnum):
    """The five icons."""

    IDLE = "idle"
    TRAINING = "training"
    PAUSED = "paused"
    OFFLINE = "offline"
    PROBLEM = "problem"


class Command(StrEnum):
    """What a click does."""

    PAUSE = "pause"
    SNOOZE_30_MIN = "snooze-30-min"
    SNOOZE_1_H = "snooze-1-h"
    SNOOZE_3_H = "snooze-3-h"
    SNOOZE_TOMORROW = "snooze-tomorrow"
    RESUME = "resume"
    PAUSE_CARDS = "pause-cards"
    RESUME_CARDS = "resume-cards"
    BOOST = "boost"
    END_BOOST = "end-boost"
    OPEN = "open"
    PREFERENCES = "preferences"
    FINISH = "finish"
    FINISH_THEN_PAUSE = "finish-then-pause"
    START = "start"
    QUIT = "quit"


REQUESTS: Final[dict[Command, tuple[str, dict[str, Any]]]] = {
    Command.PAUSE: ("pause", {}),
    Command.SNOOZE_30_MIN: ("pause", {"seconds": 1800}),
    Command.SNOOZE_1_H: ("pause", {"seconds": 3600}),
    Command.SNOOZE_3_H: ("pause", {"seconds": 10_800}),
    Command.SNOOZE_TOMORROW: ("pause", {"until_tomorrow": True}),
    Command.RESUME: ("resume", {}),
    Command.PAUSE_CARDS: ("pause", {"devices": ["cards"]}),
    Command.RESUME_CARDS: ("resume", {"devices": ["cards"]}),
    Command.BOOST: ("boost", {"seconds": 3600}),
    Command.END_BOOST: ("resume", {}),
    Command.FINISH_THEN_PAUSE: ("finish", {}),
    Command.FINISH: ("stop", {"finish": True}),
    Command.QUIT: ("stop", {"finish": False}),
}
"""The commands that are one request of the control API: its name and its body."""


class Entry(NamedTuple):
    """A line of the menu. `number` stays the same as long as the tray lives."""

    number: int
    label: str = ""
    command: Command | None = None
    """None: a line to read, a separator, or the head of `children`."""
    visible: bool = True
    children: tuple[Entry, ...] = ()
    separator: bool = False

    @property
    def enabled(self) -> bool:
        """Whether it can be chosen."""
        return self.command is not None or bool(self.children)


class Look(NamedTuple):
    """All that a tray shows."""

    state: State
    tooltip: str
    progress: str
    """How far the current unit is; empty: there is none."""
    menu: tuple[Entry, ...]
    primary: Command
    """What a click on the icon itself does."""
    secondary: Command
    """What a click with the middle button does: the quick pause."""
    ended: bool = False
    """The agent was stopped on purpose: the tray ends too."""


_STATES: Final = {
    "idle": State.IDLE,
    "working": State.TRAINING,
    "paused": State.PAUSED,
    "offline": State.OFFLINE,
    "problem": State.PROBLEM,
}


def look_of(status: Status | None, say: Translate) -> Look:
    """Return what to show; `None` is the status of an agent that does not answer."""
    if status is None:
        sentence = say("The agent is not running.")
        menu = _menu(say, sentence, "", "", running=False, override="none")
        return Look(State.OFFLINE, sentence, "", menu, Command.START, Command.START)
    sentence = _said(_part(status, "message"), say) or str(status.get("sentence") or "")
    sentence, progress = _plain(sentence), _plain(_progress(status, say))
    notice = _plain(_notice(status, say))
    override = _part(status, "override").get("kind")
    return Look(
        state=_STATES.get(str(status.get("activity")), State.IDLE),
        tooltip=sentence,
        progress=progress,
        menu=_menu(
            say,
            sentence,
            progress,
            notice,
            running=True,
            override=str(override),
            cards=_cards(status),
        ),
        primary=Command.OPEN,
        secondary=Command.RESUME if override == "pause" else Command.PAUSE,
        ended=status.get("running") is False or status.get("activity") == "stopped",
    )


def shortened(sentence: str, longest: int = LONGEST_LINE) -> str:
    """Return a sentence short enough for a menu; the tooltip has it whole."""
    if len(sentence) <= longest:
        return sentence
    whole_words = sentence[:longest].rpartition(" ")[0] or sentence[: longest - 1]
    return f"{whole_words.rstrip(',;:.')}…"


def entries(menu: tuple[Entry, ...]) -> dict[int, Entry]:
    """Return every entry of a menu by its number, children included."""
    found: dict[int, Entry] = {}
    for entry in menu:
        found[entry.number] = entry
        found |= entries(entry.children)
    return found


def _said(message: Status, say: Translate) -> str:
    """Return a `core.sentence.Sentence` in the user's language; empty if it is none."""
    template, values = message.get("template"), message.get("values")
    if not (isinstance(template, str) and template and isinstance(values, dict)):
        return ""
    return say(
        template,
        **{
            name: _said(value, say) if isinstance(value, dict) else value
            for name, value in values.items()
        },
    )


def _progress(status: Status, say: Translate) -> str:
    """Return how far the current unit is, or nothing."""
    unit = _part(status, "unit")
    total = unit.get("steps_total") or 0
    if not unit:
        return ""
    percent = round(100 * (unit.get("steps_done") or 0) / total) if total else 0
    return say(
        "{project}, version {version}: {percent} %",
        project=str(unit.get("project", "")),
        version=unit.get("version", 0),
        percent=percent,
    )


def _cards(status: Status) -> str:
    """Return whether the cards that may compute are `paused` or `free`; empty: there are none."""
    devices = status.get("devices")
    cards = [
        one
        for one in (devices if isinstance(devices, list) else [])
        if isinstance(one, dict) and one.get("name") != "cpu" and one.get("reason") != "device_off"
    ]
    if not cards:
        return ""
    return "paused" if all(one.get("paused") for one in cards) else "free"


def _notice(status: Status, say: Translate) -> str:
    """Return the first project's notice, such as that its permission ends soon, or nothing."""
    projects = status.get("projects")
    for project in projects if isinstance(projects, list) else []:
        said = _said(_part(project, "notice"), say) if isinstance(project, dict) else ""
        if said:
            return f"{project.get('title', '')}: {said}"
    return ""


def _menu(
    say: Translate,
    sentence: str,
    progress: str,
    notice: str,
    *,
    running: bool,
    override: str,
    cards: str = "",
) -> tuple[Entry, ...]:
    """Return the one tree of entries, with what does not apply now hidden.

    `cards`: whether the graphics cards are `paused` or `free`; empty: there are none.
    """
    paused, boosted = override == "pause", override == "boost"
    finishing = override == "finish"
    may_pause = running and not paused
    return (
        Entry(1, shortened(sentence)),
        Entry(PROGRESS, progress, visible=bool(progress)),
        Entry(_NOTICE, shortened(notice), visible=bool(notice)),
        Entry(3, separator=True),
        Entry(4, say("Pause"), Command.PAUSE, visible=may_pause),
        Entry(
            5,
            say("Pause for"),
            visible=may_pause,
            children=(
                Entry(51, say("30 min"), Command.SNOOZE_30_MIN),
                Entry(52, say("1 h"), Command.SNOOZE_1_H),
                Entry(53, say("3 h"), Command.SNOOZE_3_H),
                Entry(54, say("until tomorrow"), Command.SNOOZE_TOMORROW),
            ),
        ),
        Entry(
            17,
            say("Pause the graphics cards"),
            Command.PAUSE_CARDS,
            visible=may_pause and cards == "free",
        ),
        Entry(
            18,
            say("Resume on the graphics cards"),
            Command.RESUME_CARDS,
            visible=may_pause and cards == "paused",
        ),
        Entry(6, say("Resume"), Command.RESUME, visible=running and paused),
        Entry(
            19,
            say("Finish, then pause"),
            Command.FINISH_THEN_PAUSE,
            visible=may_pause and not finishing,
        ),
        Entry(
            20,
            say("Take new work again"),
            Command.RESUME,
            visible=running and finishing,
        ),
        Entry(7, say("Run now for 1 h"), Command.BOOST, visible=running and not boosted),
        Entry(8, say("End the boost"), Command.END_BOOST, visible=running and boosted),
        Entry(9, say("Start the agent"), Command.START, visible=not running),
        Entry(10, separator=True),
        Entry(11, say("Open"), Command.OPEN, visible=running),
        Entry(12, say("Preferences"), Command.PREFERENCES, visible=running),
        Entry(13, separator=True, visible=running),
        Entry(14, say("Finish and stop"), Command.FINISH, visible=bool(progress)),
        Entry(15, say("Quit"), Command.QUIT),
    )


def _plain(text: str) -> str:
    """Return a text without control characters, which a project may send.

    A bus disconnects a program that sends a NUL; others change the direction of the text.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _SPACES else "\ufffd" for one in text)


def _part(status: Status, name: str) -> Status:
    part = status.get(name)
    return part if isinstance(part, dict) else {}
