"""What the journal takes and returns: immutable, typed copies of its rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.core.agent_state import AssignmentEvent, AssignmentState, next_state
from pleb_agent.core.devices import CPU
from pleb_agent.core.trust import Memory
from pleb_agent.core.unit_parts import Held
from pleb_shared.protocol.ids import AttachLink, digest_of, parse_attach_link
from pleb_shared.protocol.manifest import Manifest
from pleb_shared.protocol.report import DeltaResult, FailureResult, Report

if TYPE_CHECKING:
    import sqlite3

    from pleb_shared.protocol.report import Result

__all__ = [
    "FAMILY_FOLDER",
    "AssignmentRow",
    "Change",
    "NewProject",
    "ProjectRow",
    "RequestRow",
    "read_assignment",
    "read_project",
    "read_request",
]

FAMILY_FOLDER: Final = "family-"
"""How the name of a family's folder begins; that of a project alone is a number."""
_NAME_CHARACTERS: Final = 32
_REASON_CHARACTERS = 500
"""The protocol's ceiling for the reason of a `FailureResult`."""


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
    device: str = CPU
    """Which of this PC's devices the host is."""
    family: str = ""
    """The name of the family that it is a member of; empty: none."""


@dataclass(frozen=True, kw_only=True)
class ProjectRow(NewProject):
    """An attached project, as one of this PC's devices is a host of it."""

    id: int
    name: str
    base_url: str
    detaching: bool
    attached_at: float
    no_new_work: bool = False
    """The user wants no further units of it for now."""
    own_folder: str = ""
    """The folder with the user's own data for it; empty: none is chosen."""

    @property
    def attach_link(self) -> AttachLink:
        """The link's parts."""
        return parse_attach_link(self.link)

    @property
    def work_folder(self) -> str:
        """The name of the folder that its worker is closed around: its own, or its family's.

        A family is what one root key has signed, at one coordinator: its members are one
        researcher's, so what a worker may read of one it may read of all.
        """
        if not self.family:
            return str(self.id)
        family = f"{self.base_url}\n{self.attach_link.root}\n{self.family}"
        return f"{FAMILY_FOLDER}{digest_of(family.encode())[:_NAME_CHARACTERS]}"


@dataclass(frozen=True)
class AssignmentRow:
    """An assignment. `report`: None until it is computed or has failed.

    `delta_file`: absolute path of the encoded delta, empty if there is none.
    """

    id: int
    project: int
    assignment: int
    nonce: str
    state: AssignmentState
    manifest: Manifest
    lease_ends_at: float
    report: Report | None
    delta_file: str
    upload: str
    tries: int
    note: str
    verdict: str
    credit: float
    received_at: float
    ended_at: float | None
    unit: int = 0
    """Its number on the project's page, which comes with the verdict; 0: not known."""
    distance: float | None = None
    """From the result that counts, if this one was refused for that."""
    tolerance: float | None = None
    reason: str = ""
    """Why the verdict is what it is: the JSON of a `Sentence`, so that it can be translated."""
    held: Held = Held.NO
    kwh: float = 0.0
    """What computing it took."""
    measured_kwh: float = 0.0
    """So much of it was measured, the rest estimated."""

    @property
    def is_failure(self) -> bool:
        """Whether its report gives the unit back."""
        return self.report is not None and isinstance(self.report.result, FailureResult)

    @property
    def delta(self) -> DeltaResult | None:
        """What its report says about a delta; None if it reports none."""
        result = None if self.report is None else self.report.result
        return result if isinstance(result, DeltaResult) else None

    def reporting(
        self, result: Result, *, compute_seconds: float = 0.0, delta_file: str = ""
    ) -> AssignmentRow:
        """Return the row with a report of this result, ready to be sent."""
        report = Report(
            assignment=self.manifest.assignment,
            nonce=self.manifest.nonce,
            epoch=self.manifest.unit.epoch,
            version=self.manifest.unit.version,
            result=result,
            compute_seconds=compute_seconds,
        )
        state = next_state(self.state, AssignmentEvent.REPORT_READY)
        return replace(self, state=state, report=report, delta_file=delta_file)

    def giving_back(self, reason: str) -> AssignmentRow:
        """Return the row with a report that gives the unit back for this reason."""
        reason = reason[:_REASON_CHARACTERS]
        return replace(self.reporting(FailureResult(reason=reason)), note=reason)


@dataclass(frozen=True)
class RequestRow:
    """A request that was written and whose answer is not known: these bytes are sent again.

    `reported`: ids of the assignments whose reports it carries, in their order.
    `max_units`: how many units it asks for.
    """

    project: int
    sequence: int
    body: bytes
    reported: tuple[int, ...]
    max_units: int
    wait_seconds: float
    expires_at: float


@dataclass(frozen=True)
class Change:
    """What happened to one assignment.

    `samples`: training examples that its unit went through, counted when it is done.
    """

    row: AssignmentRow
    event: AssignmentEvent
    upload: str = ""
    note: str = ""
    samples: int = 0

    @property
    def state(self) -> AssignmentState:
        """The state that it leads to.

        Raises:
            WrongEventError: the row's state has no such event.
        """
        return next_state(self.row.state, self.event)


def read_project(row: sqlite3.Row) -> ProjectRow:
    """Return a project from its SQL row."""
    values = dict(row)
    values["memory"] = Memory(
        metadata_number=values.pop("metadata_number"),
        metadata_digest=values.pop("metadata_digest"),
        epoch=values.pop("epoch"),
        latest_version=values.pop("latest_version"),
        root=values.pop("root"),
        restored_at=values.pop("restored_at"),
    )
    values["detaching"] = bool(row["detaching"])
    values["no_new_work"] = bool(row["no_new_work"])
    return ProjectRow(**values)


def read_assignment(row: sqlite3.Row) -> AssignmentRow:
    """Return an assignment from its SQL row."""
    values = dict(row)
    del values["part"]  # follows from others
    values["state"] = AssignmentState(row["state"])
    values["held"] = Held(row["held"])
    values["manifest"] = msgspec.json.decode(row["manifest"], type=Manifest)
    values["report"] = msgspec.json.decode(row["report"], type=Report) if row["report"] else None
    return AssignmentRow(**values)


def read_request(row: sqlite3.Row) -> RequestRow:
    """Return a request from its SQL row."""
    return RequestRow(**{**dict(row), "reported": tuple(json.loads(row["reported"]))})
