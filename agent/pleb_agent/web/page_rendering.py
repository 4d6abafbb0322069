"""Jinja2, imported when the first page is asked for: who never opens the page never pays."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pleb_agent.web.page_icons import ICONS
from pleb_agent.web.page_terms import ACTIVITIES
from pleb_shared.protocol.shown import shown, shown_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from time import struct_time

    from jinja2 import Environment

    from pleb_agent.web.translation import Words
    from pleb_agent.web.views import Message

__all__ = ["TEMPLATES", "render"]

TEMPLATES: Final = Path(__file__).parent / "templates"
_CACHED_TEMPLATES: Final = 40
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
            several=words.several,
            message=partial(_message, words),
            f=words.formats,
            language=words.language,
            moment=lambda then: words.formats.moment(local_time(then), local_time(now)),
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
    """Return a stranger's words on one line, cut to a bearable length."""
    return _cut(shown_line(text), _LONGEST_LINE)


def prose(text: str) -> str:
    """Return a stranger's words, their line breaks kept, cut to a bearable length."""
    return _cut(shown(text), _LONGEST_TEXT)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest].rstrip() + "…"


def _message(words: Words, message: Message) -> str:
    """Return a sentence of the core, translated where it can be."""
    from pleb_agent.core.sentence import Sentence

    return line(words.sentence(Sentence(message.template, message.values), message.text))


def _icon(name: str) -> Any:
    """Return one of our drawings, which is not announced: the words beside it say the same."""
    from markupsafe import Markup

    return Markup(  # noqa: S704 - a constant of ours
        '<svg class="icon" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" '
        f'focusable="false">{ICONS[name]}</svg>'
    )
