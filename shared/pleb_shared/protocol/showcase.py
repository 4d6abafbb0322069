"""The showcase: what a project's model says or sees, version by version, for its page.

The researcher signs what is asked (`Showcase`) and what stands beside the answers (`Card`); a
trusted host that evaluates a version sends the answers (`Shown`), which are numbers alone.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from pleb_shared.protocol.ids import Digest
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Blob, Count, Struct

__all__ = [
    "BYTES",
    "Card",
    "CardExample",
    "CardInput",
    "Likely",
    "NumbersInput",
    "PictureInput",
    "Showcase",
    "Shown",
    "ShownClasses",
    "ShownNumbers",
    "ShownText",
    "TextInput",
    "affordable_flops",
    "fault_of",
    "runs_of",
]

BYTES: Final = 256
"""What a byte-level model chooses from."""
_CARD_TEXT: Final = 2_000
"""Characters of a text on a card."""
_CARD_NUMBERS: Final = 16
"""Of an example's row that are shown."""
_CARD_SIDE: Final = 64
"""Pixels, at most, of a picture's height and width."""
_PICTURE_BYTES: Final = 3 * _CARD_SIDE**2
_CHEAP_FLOPS: Final = 2**33
"""Less than a second on an old PC: what a showcase may always cost."""
_SHARE: Final = 10
"""Beyond that, it costs at most one in so many of an evaluation's operations."""

Name = Annotated[str, msgspec.Meta(max_length=LIMITS.name_characters)]
CardText = Annotated[str, msgspec.Meta(max_length=_CARD_TEXT)]
Number = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Class = Annotated[int, msgspec.Meta(ge=0, lt=LIMITS.showcase_classes)]
Likely = tuple[Class, Annotated[float, msgspec.Meta(ge=0, le=1)]]
"""A class and its probability."""


class Showcase(Struct, frozen=True):
    """What a trusted host shows of a version that it evaluates.

    `classes` and `numbers`: the output of some examples of the holdout's first shard. `text`: a
    prompt, continued byte by byte.
    """

    kind: Literal["classes", "numbers", "text"]
    graph: Blob
    """One output, `showcase` of the kind `predictions`: scores [batch, width]; numbers [batch] or
    [batch, width]; or scores [batch, window, 256] of the next byte at each place."""
    card: Blob
    """A `Card` as JSON."""
    width: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.showcase_classes)]
    """Classes or numbers in the output of an example; bytes: 256."""
    examples: Annotated[list[Count], msgspec.Meta(max_length=LIMITS.showcase_examples)] = []
    """Rows of the holdout's first shard."""
    prompt: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, lt=BYTES)]],
        msgspec.Meta(max_length=LIMITS.showcase_prompt),
    ] = []
    """Bytes."""
    tokens: Annotated[int, msgspec.Meta(ge=0, le=LIMITS.showcase_tokens)] = 0
    """Bytes that follow."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    """0: always the likeliest byte."""

    def __post_init__(self) -> None:
        """Refuse what asks for nothing, or for both."""
        if self.kind == "text":
            if self.examples or not self.prompt or not self.tokens or self.width != BYTES:
                raise ValueError("a showcase of text has a prompt, and bytes to follow it")
        elif not self.examples or self.prompt or self.tokens:
            raise ValueError("a showcase of examples names them, and has no prompt")
        elif self.kind == "numbers" and self.width > LIMITS.showcase_numbers:
            raise ValueError(f"a showcase shows at most {LIMITS.showcase_numbers} numbers each")


def runs_of(showcase: Showcase) -> int:
    """Return how many single examples its graph is run for."""
    return showcase.tokens if showcase.kind == "text" else len(showcase.examples)


def affordable_flops(evaluation_flops: int) -> int:
    """Return what a showcase may cost beside an evaluation of so many operations."""
    return max(_CHEAP_FLOPS, evaluation_flops // _SHARE)


class PictureInput(Struct, tag="picture", tag_field="kind", frozen=True):
    """A small image: bytes by row, column and channel."""

    height: Annotated[int, msgspec.Meta(ge=1, le=_CARD_SIDE)]
    width: Annotated[int, msgspec.Meta(ge=1, le=_CARD_SIDE)]
    channels: Literal[1, 3]
    pixels: Annotated[bytes, msgspec.Meta(max_length=_PICTURE_BYTES)]

    def __post_init__(self) -> None:
        """Refuse another number of bytes than the picture has."""
        if len(self.pixels) != self.height * self.width * self.channels:
            raise ValueError("a picture has another number of bytes than its size says")


class TextInput(Struct, tag="text", tag_field="kind", frozen=True):
    """A text."""

    text: CardText


class NumbersInput(Struct, tag="numbers", tag_field="kind", frozen=True):
    """The first of an example's numbers; `more`: how many there are beside them."""

    values: Annotated[list[Number], msgspec.Meta(max_length=_CARD_NUMBERS)]
    more: Count = 0


CardInput = PictureInput | TextInput | NumbersInput


class CardExample(Struct, frozen=True):
    """What the model sees of an example, and what is true of it: a class, or numbers."""

    inputs: Annotated[list[CardInput], msgspec.Meta(max_length=LIMITS.inputs)]
    truth: Annotated[list[Number], msgspec.Meta(max_length=LIMITS.showcase_numbers)] = []
    """Empty: nothing is known."""


class Card(Struct, frozen=True):
    """What pages show beside the answers. Another question is another card."""

    graph: Digest
    """Of the graph as it was before it was sealed."""
    classes: Annotated[list[Name], msgspec.Meta(max_length=LIMITS.showcase_classes)] = []
    """Their names; empty: numbers."""
    examples: Annotated[list[CardExample], msgspec.Meta(max_length=LIMITS.showcase_examples)] = []
    prompt: CardText = ""
    tokens: Count = 0
    temperature: float = 0.0


class ShownClasses(Struct, tag="classes", tag_field="kind", frozen=True):
    """Of each example the likeliest classes, the likeliest one first."""

    card: Digest
    """The card of the showcase that this answers."""
    rows: Annotated[
        list[Annotated[list[Likely], msgspec.Meta(min_length=1, max_length=LIMITS.showcase_top)]],
        msgspec.Meta(max_length=LIMITS.showcase_examples),
    ]


class ShownNumbers(Struct, tag="numbers", tag_field="kind", frozen=True):
    """Of each example the numbers that the model gives."""

    card: Digest
    rows: Annotated[
        list[Annotated[list[Number], msgspec.Meta(max_length=LIMITS.showcase_numbers)]],
        msgspec.Meta(max_length=LIMITS.showcase_examples),
    ]


class ShownText(Struct, tag="text", tag_field="kind", frozen=True):
    """The bytes that follow the prompt."""

    card: Digest
    tokens: Annotated[
        list[Annotated[int, msgspec.Meta(ge=0, lt=BYTES)]],
        msgspec.Meta(max_length=LIMITS.showcase_tokens),
    ]


Shown = ShownClasses | ShownNumbers | ShownText


def fault_of(showcase: Showcase, shown: Shown) -> str:
    """Return why `shown` is no answer to `showcase`, or an empty text."""
    if shown.card != showcase.card.digest:
        return "it answers another card"
    if showcase.kind != shown.__struct_config__.tag:
        return f"{showcase.kind} are asked for"
    if isinstance(shown, ShownText):
        return "" if len(shown.tokens) == showcase.tokens else "it is not as long as asked for"
    if isinstance(shown, ShownNumbers):
        fits = all(len(row) == showcase.width for row in shown.rows)
    else:
        fits = all(_in_order(row, showcase.width) for row in shown.rows)
    if len(shown.rows) != len(showcase.examples) or not fits:
        return "its rows do not fit the examples"
    return ""


def _in_order(row: list[Likely], width: int) -> bool:
    """Whether a row names so many of `width` classes as it should, each once, likeliest first."""
    classes = [number for number, _ in row]
    chances = [chance for _, chance in row]
    return (
        len(row) == min(width, LIMITS.showcase_top)
        and len(set(classes)) == len(classes)
        and max(classes) < width
        and chances == sorted(chances, reverse=True)
        and sum(chances) <= 1 + 1e-3
    )
