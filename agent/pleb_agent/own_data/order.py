"""What agentd and the process that reads a folder say to each other: without numpy or torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.protocol.own_data import OwnData
from pleb_shared.protocol.project import InputSpec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NONCE_BYTES", "Order", "Outcome", "shard_file"]

NONCE_BYTES: Final = 12
"""At the beginning of a shard's file; what follows is AES-256-GCM."""


class Order(msgspec.Struct, frozen=True):
    """What is to be read, and where the shards go."""

    folder: str
    form: OwnData
    inputs: list[InputSpec]
    batch_examples: int
    key: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    """Of the shards, in hex."""
    target: str


class Outcome(msgspec.Struct, frozen=True):
    """How many shards were written, or why none were."""

    shards: int = 0
    problem: str = ""


def shard_file(folder: Path, number: int) -> Path:
    """Return where a shard is."""
    return folder / f"shard-{number}"
