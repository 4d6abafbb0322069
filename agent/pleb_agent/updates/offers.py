"""What a repository offers: signed descriptions of targets, and the choice among them (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AgentFacts",
    "Offer",
    "RuntimeFacts",
    "Target",
    "is_newer",
    "newest_release",
    "newest_runtimes",
    "version_key",
]

_NUMBERS: Final = re.compile(r"\d+")
Short = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._+-]{1,64}\Z")]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**36)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class RuntimeFacts(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="runtime"):
    """The `custom` field of a torch runtime's target."""

    kind: Short
    """`cpu`, or a GPU's: `cu130`, `rocm7`."""
    python: Short
    torch: Short
    platform: Short
    unpacked_bytes: Bytes
    files: Count


class AgentFacts(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="agent"):
    """The `custom` field of a release's target."""

    version: Short
    platform: Short
    unpacked_bytes: Bytes
    files: Count


Facts = RuntimeFacts | AgentFacts


@dataclass(frozen=True)
class Target:
    """A signed file: its path in the repository, size, SHA-256 and what it is."""

    path: str
    bytes_total: int
    sha256: str
    facts: Facts


@dataclass(frozen=True)
class Offer:
    """A runtime that could be fetched, with its sizes before anybody presses the button."""

    kind: str
    torch: str
    bytes_total: int
    unpacked_bytes: int


def version_key(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for comparison: `0.10.2` is (0, 10, 2)."""
    return tuple(map(int, _NUMBERS.findall(version.partition("+")[0])))


def is_newer(version: str, than: str) -> bool:
    """Whether one version comes after the other."""
    return version_key(version) > version_key(than)


def newest_release(
    targets: Iterable[Target], platform: str, installed: str, bad: frozenset[str]
) -> Target | None:
    """Return the newest release for this platform after `installed` that is not known as bad."""
    versions = {
        target.facts.version: target
        for target in targets
        if isinstance(target.facts, AgentFacts)
        and target.facts.platform == platform
        and target.facts.version not in bad
        and is_newer(target.facts.version, installed)
    }
    return versions[max(versions, key=version_key)] if versions else None


def newest_runtimes(targets: Iterable[Target], platform: str, python: str) -> dict[str, Target]:
    """Return, by kind, the runtime with the newest torch that this Python can load."""
    newest: dict[str, tuple[tuple[int, ...], Target]] = {}
    for target in targets:
        facts = target.facts
        if not isinstance(facts, RuntimeFacts):
            continue
        if (facts.platform, facts.python) != (platform, python):
            continue
        key = version_key(facts.torch)
        if facts.kind not in newest or key > newest[facts.kind][0]:
            newest[facts.kind] = key, target
    return {kind: target for kind, (_, target) in newest.items()}
