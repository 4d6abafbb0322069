"""What `chunks` in [limits] may say: which parts of the model PCs with little memory train.

layers:1/2            as many of the last layers as fit into half of the whole model's memory
layers:head*,norm*    the parameters of these names, `*` for any characters
width:1/2             half of the columns, heads and channels inside each layer
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pleb_shared.errors import InputError
from pleb_shared.protocol.limits import LIMITS

__all__ = ["Layers", "Width", "parse_chunk"]

_OF_A_SHARE: Final = set("0123456789./ ")
_EXAMPLES: Final = "'layers:1/2', 'layers:head*,norm*' or 'width:1/2'"


@dataclass(frozen=True)
class Layers:
    """Some parameters: the last layers that fit into a share of the memory, or by their names."""

    share: Fraction | None
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Width:
    """A narrower model: this share of what can be left out of each layer."""

    share: Fraction


def parse_chunk(text: str) -> Layers | Width:
    """Return what a chunk of the project file asks for.

    Raises:
        InputError: it is not written as above; the sentence says how to write it.
    """
    kind, colon, value = text.partition(":")
    if len(text) > LIMITS.name_characters:
        raise InputError(f"a chunk has at most {LIMITS.name_characters} characters: use patterns.")
    if not colon or kind not in {"layers", "width"} or not value.strip():
        raise InputError(f"a chunk is one like {_EXAMPLES}, not {text!r}.")
    if kind == "layers" and not set(value) <= _OF_A_SHARE:  # names may begin with a digit
        return Layers(None, tuple(part.strip() for part in value.split(",")))
    try:
        share = Fraction(value.strip())
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{text!r} needs a share such as 1/2 or 0.5.") from None
    if not 0 < share < 1:
        raise InputError(f"the share of {text!r} must lie between 0 and 1.")
    return Layers(share) if kind == "layers" else Width(share)
