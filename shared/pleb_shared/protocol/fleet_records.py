"""What a coordinator knows of a project's hosts, signed for the one that the project moves to.

The statement has a line for each host, the JSON of a `FleetRecord`, and one for each account whose
hosts are gone. `FleetHead` names the hash of all lines: whoever signs it signs them. Hosts and
accounts are known by their keys, since numbers of two coordinators would collide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import Digest, KeyHex, ProjectName, digest_of
from pleb_shared.protocol.keys import check_public_key
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.reasons import Reason
from pleb_shared.protocol.unit import Blob, Count, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BroughtRecords",
    "FleetHead",
    "FleetRecord",
    "join_records",
    "read_records",
]

Name = Annotated[str, msgspec.Meta(max_length=LIMITS.name_characters)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**53)]
_MOST_LINE_BYTES: Final = 4096


class FleetRecord(Struct, kw_only=True, frozen=True):
    """A host, or what is left of an account whose hosts were removed."""

    key: KeyHex | None
    """The host's public key; None: the account's hosts that are gone."""
    account: Digest
    display_name: Name = ""
    team: Name = ""
    credit: Annotated[float, msgspec.Meta(ge=0, le=LIMITS.credit)]
    """In FLOPs."""
    units_valid: Count
    """Results of its that counted."""
    record: Count = 0
    """Accepted results since the last conviction."""
    refused: Count = 0
    """Convictions that are neither forgiven nor paid for by a ban."""
    bans: Count = 0
    banned_until: Seconds = 0.0
    ban_reason: Reason | None = None
    last_seen: Seconds = 0.0

    def __post_init__(self) -> None:
        """Refuse a key that proves nothing."""
        if self.key is not None:
            check_public_key(self.key)


class FleetHead(Struct, frozen=True):
    """What vouches for a statement's lines; signed by the coordinator's online key."""

    project: ProjectName
    lines: Annotated[int, msgspec.Meta(ge=0, le=LIMITS.fleet_records)]
    digest: Digest
    """SHA-256 of the lines, with line feeds between them."""
    epoch: Count
    version: Count
    """The newest one at that time."""
    issued_at: Count


class BroughtRecords(Struct, frozen=True):
    """A statement that a researcher brings to the next coordinator."""

    head: Annotated[str, msgspec.Meta(max_length=LIMITS.message_bytes)]
    """The envelope of its `FleetHead`."""
    lines: Blob


def join_records(records: Iterable[FleetRecord]) -> tuple[bytes, int]:
    """Return the lines of a statement, and how many there are.

    Raises:
        Refusal: `too_large`: there are more than one statement may have.
    """
    lines, size = [], 0
    for record in records:
        lines.append(strict_json.encode(record))
        size += len(lines[-1]) + 1
        if len(lines) > LIMITS.fleet_records or size > LIMITS.fleet_records_bytes:
            message = (
                f"The project has had more than {len(lines) - 1} hosts and accounts, the most that "
                "one statement of records names: move it without them."
            )
            raise Refusal(RefusalCode.TOO_LARGE, message)
    return b"\n".join(lines), len(lines)


def read_records(data: bytes, head: FleetHead) -> list[FleetRecord]:
    """Return the records that `head`, whose signature must have been checked, vouches for.

    Raises:
        Refusal: `wrong_digest`: they are others; `malformed`: a line is no record, or tells of a
            host or an account a second time.
    """
    if digest_of(data) != head.digest:
        message = "The records are not those that the statement's signed head names."
        raise Refusal(RefusalCode.WRONG_DIGEST, message)
    lines = data.split(b"\n") if data else []
    if len(lines) != head.lines:
        message = f"The statement has {len(lines)} records; its head says {head.lines}."
        raise Refusal(RefusalCode.MALFORMED, message)
    records = [strict_json.decode(line, FleetRecord, most_bytes=_MOST_LINE_BYTES) for line in lines]
    told = {(record.key, "" if record.key else record.account) for record in records}
    if len(told) != len(records):
        message = "The statement tells of a host or an account a second time."
        raise Refusal(RefusalCode.MALFORMED, message)
    return records
