"""Templates. Jinja2 is imported for the first page: without an open page it costs no memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.core.languages import direction_of
from pleb_agent.core.sentence import Sentence
from pleb_agent.translation.words import marked
from pleb_shared.protocol.shown import shown, shown_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from time import struct_time

    from jinja2 import Environment

    from pleb_agent.translation.words import Words

__all__ = ["ACTIVITIES", "ICONS", "TEMPLATES", "Sparkline", "line", "prose", "render", "sparkline"]

TEMPLATES: Final = Path(__file__).parent / "templates"
SPARKLINE_WIDTH: Final = 240
SPARKLINE_HEIGHT: Final = 48
_EDGE: Final = 3.0
_CACHED_TEMPLATES: Final = 40
ICONS: Final[dict[str, str]] = {
    "now": '<path d="M3 12h4l3-8 4 16 3-8h4"/>',
    "given": '<path d="M5 21V11M12 21V4M19 21v-7"/>',
    "units": '<rect x="4" y="4" width="7" height="7" rx="1.5"/>'
    '<rect x="13" y="4" width="7" height="7" rx="1.5"/>'
    '<rect x="4" y="13" width="7" height="7" rx="1.5"/><path d="m13.5 16.8 2.2 2.2 4.3-4.4"/>',
    "projects": '<circle cx="12" cy="12" r="3"/><circle cx="5" cy="5" r="2"/>'
    '<circle cx="19" cy="6" r="2"/><circle cx="6" cy="19" r="2"/><circle cx="18" cy="18" r="2"/>'
    '<path d="m6.5 6.5 3.3 3.3m7.6-2.5-3 2.6M7.4 17.6l2.5-3.5m6.7 2.5-2.4-2.4"/>',
    "preferences": '<path d="M4 7h9m5 0h2M4 17h2m5 0h9"/><circle cx="15.5" cy="7" r="2.5"/>'
    '<circle cx="8.5" cy="17" r="2.5"/>',
    "history": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3.5 2"/>',
    "log": '<path d="M5 6h14M5 12h14M5 18h8"/>',
    "working": '<path d="M7 4.5v15l12.5-7.5z"/>',
    "paused": '<path d="M8 5v14M16 5v14"/>',
    "idle": '<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z"/>',
    "offline": '<path d="M3 3l18 18M8.5 5.4A7 7 0 0 1 19 11a4 4 0 0 1 1.8 6.6"/>'
    '<path d="M16 19H7a4.5 4.5 0 0 1-.8-8.9"/>',
    "problem": '<path d="M12 4 2.8 20h18.4L12 4Zm0 6v4.5m0 2.6v.2"/>',
    "stopped": '<rect x="6" y="6" width="12" height="12" rx="2"/>',
    "boost": '<path d="M13 2 4.5 13.5H11L10 22l9-12h-6.5L13 2Z"/>',
    "check": '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
    "theme": '<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17a8.5 8.5 0 0 0 0-17Z"/>',
    "link": '<path d="M9.5 14.5 14.5 9.5"/>'
    '<path d="M8 11l-2.5 2.5a4 4 0 0 0 5.7 5.7L13 17m3-4 2.5-2.5a4 4 0 0 0-5.7-5.7L11 7"/>',
    "shield": '<path d="M12 3 5 6v5.5c0 4.3 2.9 7.6 7 9.5 4.1-1.9 7-5.2 7-9.5V6l-7-3Z"/>',
    "next": '<path d="m9 5 7 7-7 7"/>',
}
"""The page's drawings: the inside of a 24 x 24 SVG, stroked with the text's colour."""
ACTIVITIES: Final[dict[str, str]] = {
    "working": marked("Training"),
    "idle": marked("Idle"),
    "paused": marked("Paused"),
    "offline": marked("Offline"),
    "problem": marked("Needs you"),
    "stopped": marked("Stopped"),
}
_LONGEST_LINE: Final = 400
_LONGEST_TEXT: Final = 4000


def render(
    template: str,
    words: Words,
    *,
    now: float,
    local_time: Callable[[float], struct_time],
    **values: object,
) -> str:
    """Return the template's HTML in the reader's language."""
    return (
        _environment()
        .get_template(template)
        .render(
            _=words.text,
            plural=words.plural,
            message=lambda m: line(words.sentence(Sentence(m.template, m.values), m.text)),
            f=words.formats,
            language=words.language,
            direction=direction_of(words.language),
            moment=lambda then: words.formats.moment(local_time(then), local_time(now)),
            second=lambda then: words.formats.second(local_time(then), local_time(now)),
            day=lambda then: words.formats.day(local_time(then)),
            clock=lambda then: words.formats.clock(local_time(then)),
            now=now,
            **values,
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=_CACHED_TEMPLATES,
    )
    environment.filters |= {"line": line, "prose": prose}
    environment.globals |= {"icon": _icon, "activities": ACTIVITIES}
    return environment


def line(text: str) -> str:
    """Return text from outside on one line, cut to a readable length."""
    return _cut(shown_line(text), _LONGEST_LINE)


def prose(text: str) -> str:
    """Return text from outside with its line breaks, cut to a readable length."""
    return _cut(shown(text), _LONGEST_TEXT)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest].rstrip() + "…"


def _icon(name: str) -> Any:
    """Return a drawing, which screen readers skip: the words next to it say the same."""
    from markupsafe import Markup

    return Markup(  # noqa: S704 - a constant of ours
        '<svg class="icon" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" '
        f'focusable="false">{ICONS[name]}</svg>'
    )


@dataclass(frozen=True)
class Sparkline:
    """`points`: of an SVG polyline in its box; `x`, `y`: the last point."""

    points: str
    x: float
    y: float
    first: float
    last: float


def sparkline(pairs: Sequence[tuple[int, float]]) -> Sparkline | None:
    """Return the drawing of (step, value); None if there are less than two finite values."""
    finite = [(step, value) for step, value in pairs if isfinite(value)]
    if len(finite) < 2:
        return None
    values = [value for _, value in finite]
    begin, end, low, high = finite[0][0], finite[-1][0], min(values), max(values)
    points = [
        (
            _EDGE + (SPARKLINE_WIDTH - 2 * _EDGE) * (step - begin) / ((end - begin) or 1),
            _EDGE + (SPARKLINE_HEIGHT - 2 * _EDGE) * (high - value) / ((high - low) or 1.0),
        )
        for step, value in finite
    ]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Sparkline(text, round(x, 1), round(y, 1), values[0], values[-1])
