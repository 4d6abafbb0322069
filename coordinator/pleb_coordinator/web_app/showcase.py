"""The showcase as the project's page has it: pictures, words and bars, side by side."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.showcase import (
    PictureInput,
    ShownClasses,
    ShownNumbers,
    ShownText,
    TextInput,
)

if TYPE_CHECKING:
    from pleb_coordinator.api.showcase import Answer, ShowcaseStatus
    from pleb_shared.protocol.showcase import Card, CardExample, CardInput

__all__ = ["Page", "page_of", "png"]

_BARS: Final = 3
"""Classes that are shown of each answer."""
_LINKS: Final = 6
"""Versions that a page offers to compare with."""


@dataclass(frozen=True)
class Seen:
    """One input of an example."""

    picture: str = ""
    """A `data:` address; empty: it is none."""
    text: str = ""
    numbers: str = ""


@dataclass(frozen=True)
class Bar:
    """A class, how likely it is for the model, and whether it is the true one."""

    name: str
    chance: float
    is_true: bool


@dataclass(frozen=True)
class Said:
    """What one version makes of an example."""

    bars: tuple[Bar, ...] = ()
    numbers: str = ""


@dataclass(frozen=True)
class Example:
    """An example, what is true of it, and what both versions make of it."""

    seen: tuple[Seen, ...]
    truth: str
    """Empty: nobody knows."""
    before: Said | None
    newest: Said


@dataclass(frozen=True)
class Page:
    """What the template shows."""

    kind: str
    newest: int
    newest_at: float
    before: int | None
    """None: only one version was evaluated yet."""
    links: tuple[int, ...]
    """Versions to compare with."""
    examples: tuple[Example, ...] = ()
    right: int | None = None
    """Of the examples whose class is known, how many the newest version gets right."""
    right_before: int | None = None
    known: int = 0
    pictures: bool = False
    """Whether each example is a picture, beside which its answers have room."""
    prompt: str = ""
    said: str = ""
    said_before: str = ""


def page_of(status: ShowcaseStatus) -> Page | None:
    """Return what to show of it; None: nothing yet."""
    card, newest, before = status.card, status.newest, status.before
    if card is None or newest is None:
        return None
    page = Page(
        kind=status.kind or "",
        newest=newest.version,
        newest_at=newest.made_at,
        before=None if before is None else before.version,
        links=_spread(status.versions[:-1]),
    )
    if isinstance(newest.shown, ShownText):
        return replace(page, prompt=card.prompt, said=_text(newest), said_before=_text(before))
    examples = tuple(
        Example(
            seen=tuple(_seen(one) for one in example.inputs),
            truth=_truth(card, example, newest),
            before=None if before is None else _said(card, example, before, row),
            newest=_said(card, example, newest, row),
        )
        for row, example in enumerate(card.examples)
    )
    page = replace(
        page,
        examples=examples,
        pictures=all(len(one.seen) == 1 and one.seen[0].picture for one in examples),
    )
    if not isinstance(newest.shown, ShownClasses):
        return page
    return replace(
        page,
        known=sum(bool(example.truth) for example in examples),
        right=sum(_is_right(example.newest) for example in examples),
        right_before=sum(_is_right(example.before) for example in examples),
    )


def _spread(versions: list[int]) -> tuple[int, ...]:
    """Return a few of `versions`, the first and the last among them."""
    if len(versions) <= _LINKS:
        return tuple(versions)
    last = len(versions) - 1
    return tuple(versions[round(place * last / (_LINKS - 1))] for place in range(_LINKS))


def _text(answer: Answer | None) -> str:
    """Return the bytes as text; what is no UTF-8 becomes a sign of that."""
    if answer is None or not isinstance(answer.shown, ShownText):
        return ""
    return bytes(answer.shown.tokens).decode("utf-8", "replace")


def _said(card: Card, example: CardExample, answer: Answer, row: int) -> Said:
    shown = answer.shown
    if isinstance(shown, ShownNumbers):
        return Said(numbers=_numbers(shown.rows[row]))
    if not isinstance(shown, ShownClasses):
        return Said()
    true = int(example.truth[0]) if example.truth else None
    bars = [
        Bar(_class(card, number), chance, number == true)
        for number, chance in shown.rows[row][:_BARS]
    ]
    return Said(tuple(bars))


def _is_right(said: Said | None) -> bool:
    return said is not None and bool(said.bars) and said.bars[0].is_true


def _truth(card: Card, example: CardExample, answer: Answer) -> str:
    if not example.truth:
        return ""
    if isinstance(answer.shown, ShownClasses):
        return _class(card, int(example.truth[0]))
    return _numbers(example.truth)


def _class(card: Card, number: int) -> str:
    return card.classes[number] if number < len(card.classes) else str(number)


def _numbers(values: list[float], more: int = 0) -> str:
    rest = f" and {more} more" if more else ""
    return ", ".join(f"{value:.3g}" for value in values) + rest


def _seen(one: CardInput) -> Seen:
    if isinstance(one, PictureInput):
        data = base64.b64encode(png(one)).decode()
        return Seen(picture=f"data:image/png;base64,{data}")
    if isinstance(one, TextInput):
        return Seen(text=one.text)
    return Seen(numbers=_numbers(one.values, one.more))


def png(picture: PictureInput) -> bytes:
    """Return the picture as PNG (ISO/IEC 15948): 8 bits a channel, no filter."""
    row = picture.width * picture.channels
    lines = b"".join(
        b"\0" + picture.pixels[start : start + row] for start in range(0, len(picture.pixels), row)
    )
    kind = 0 if picture.channels == 1 else 2  # grey, or red, green and blue
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
