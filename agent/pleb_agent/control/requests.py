"""The bodies of requests to the control API, which are the arguments of the controller."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from pleb_agent.core.unit_parts import UnitAct
from pleb_agent.lan.household import HouseholdAct

Seconds = Annotated[float, msgspec.Meta(gt=0, le=31 * 86_400)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies."""


class AttachRequest(RequestBody, frozen=True):
    """Attach a project, or join an account with the text of `link`."""

    link: Text
    invite: str | None = None
    name: Annotated[str, msgspec.Meta(max_length=64)] = ""
    only: bool = False
    """Whether no other member of the project's family is attached."""


class PreviewRequest(RequestBody, frozen=True):
    """Show what a project is before attaching it."""

    link: Text


class ProjectRequest(RequestBody, frozen=True):
    """Leave a project, or return the text that adds another PC to its account."""

    project: str


Devices = Annotated[list[Annotated[str, msgspec.Meta(max_length=16)]], msgspec.Meta(max_length=64)]
"""Names of devices; `cards` stands for all but the processor. None: the whole PC."""


class PauseRequest(RequestBody, frozen=True):
    """Pause for some seconds, until tomorrow morning, or until resumed; all, or some devices."""

    seconds: Seconds | None = None
    until_tomorrow: bool = False
    devices: Devices = []


class HookPauseRequest(RequestBody, frozen=True):
    """Another program asks for a pause, for some seconds or until it resumes."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""
    seconds: Seconds | None = None


class ResumeRequest(RequestBody, frozen=True):
    """End a pause or a boost; or the pauses of some devices."""

    devices: Devices = []


class BoostRequest(RequestBody, frozen=True):
    """Run now, even while the PC is in use."""

    seconds: Seconds = 3600.0


class FinishRequest(RequestBody, frozen=True):
    """Take no new work, finish what is in hand, then pause."""


class NewWorkRequest(RequestBody, frozen=True):
    """Take no further units of a project, or take them again; of all projects without a name."""

    project: str = ""
    allow: bool = False


class OwnDataRequest(RequestBody, frozen=True):
    """Choose the folder with the user's own data for a project, forget it, or show which it is."""

    project: str
    folder: Text = ""
    forget: bool = False


class ForgetHabitsRequest(RequestBody, frozen=True):
    """Forget when this PC was free."""


class UnitRequest(RequestBody, frozen=True):
    """Pause a unit that is in hand, resume it, or hand it back. `id`: of the list of units."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    act: UnitAct


class VerifyRequest(RequestBody, frozen=True):
    """Look for accepted units in the signed log of one project, or of all that are attached.

    `mirror`: the web server to read it from; empty: each project's coordinator. `again`: also for
    units that were found before.
    """

    project: str = ""
    mirror: Annotated[str, msgspec.Meta(max_length=500)] = ""
    again: bool = False


class HouseholdActRequest(RequestBody, frozen=True):
    """Pause or resume all agents of the household, or apply a preset to all."""

    act: HouseholdAct
    preset: Annotated[str, msgspec.Meta(max_length=32)] = ""


class HouseholdJoinRequest(RequestBody, frozen=True):
    """Join the household of the PC that shows this code."""

    code: Annotated[str, msgspec.Meta(max_length=100)]


class StopRequest(RequestBody, frozen=True):
    """Stop the agent, at once or after the current unit."""

    finish: bool = False


class PreferencesRequest(RequestBody, frozen=True):
    """Change preferences: names and new values, as `preference_table.changed` takes them."""

    changes: dict[str, Any]


class RulesRequest(RequestBody, frozen=True):
    """Replace the rules on signals: as `core.signals.SignalRules` has them."""

    rules: dict[str, Any]


class ReadSignalRequest(RequestBody, frozen=True):
    """Read a signal now: as `core.signals.Signal` has it."""

    signal: dict[str, Any]


class HookRequest(RequestBody, frozen=True):
    """Make a token with which another program may pause the agent, or end it."""

    name: Annotated[str, msgspec.Meta(max_length=200)]


class PresetRequest(RequestBody, frozen=True):
    """Apply a preset: quiet, balanced or full."""

    name: str


class AutostartRequest(RequestBody, frozen=True):
    """Start with the session, or not."""

    on: bool


class PageRequest(RequestBody, frozen=True):
    """Open the page; with a link, at the welcome to that project."""

    link: Text = ""


class RuntimeRequest(RequestBody, frozen=True):
    """Download a torch runtime: cpu, or a GPU's."""

    kind: Annotated[str, msgspec.Meta(max_length=32)] = "cpu"
