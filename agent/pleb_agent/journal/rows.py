"""What the journal gives out: immutable copies of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_shared.protocol.ids import AttachLink, parse_attach_link

if TYPE_CHECKING:
    from pleb_agent.core.agent_state import AssignmentState
    from pleb_agent.core.trust import Memory
    from pleb_shared.protocol.manifest import Manifest

__all__ = ["AssignmentRow", "NewAssignment", "NewProject", "ProjectRow", "RequestRow", "Settled"]


@dataclass(frozen=True)
class NewProject:
    """A project as it is attached. Key files are names in the home's folder of keys."""

    link: str
    host_key_file: str
    account_key_file: str
    host: str
    role: str
    metadata: bytes
    memory: Memory
    sequence: int


@dataclass(frozen=True)
class ProjectRow(NewProject):
    """An attached project."""

    id: int
    name: str
    base_url: str
    detaching: bool
    attached_at: float

    @property
    def attach_link(self) -> AttachLink:
        """The link's parts."""
        return parse_attach_link(self.link)


@dataclass(frozen=True)
class NewAssignment:
    """A unit as it came, with the signed envelope that it came in."""

    manifest: Manifest
    envelope: bytes
    lease_ends_at: float


@dataclass(frozen=True)
class AssignmentRow:
    """An assignment. `report` holds the JSON of its `Report`, empty until computed.

    `delta_file`: absolute path of the encoded delta, empty if there is none.
    """

    id: int
    project: int
    assignment: int
    nonce: str
    state: AssignmentState
    manifest: Manifest
    lease_ends_at: float
    report: bytes
    delta_file: str
    upload: str
    tries: int
    note: str
    verdict: str
    credit: float
    received_at: float
    ended_at: float | None


@dataclass(frozen=True)
class RequestRow:
    """A request that was written and whose answer is not known: these bytes are sent again.

    `reported`: ids of the assignments whose reports it carries, in their order.
    """

    project: int
    sequence: int
    body: bytes
    reported: tuple[int, ...]
    wait_seconds: float
    expires_at: float


@dataclass(frozen=True)
class Settled:
    """What an answer made of one reported assignment.

    `samples`: training examples that its unit went through, for those that are done.
    """

    id: int
    state: AssignmentState
    upload: str = ""
    note: str = ""
    samples: int = 0
