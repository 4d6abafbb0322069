"""What the faces (CLI, tray, page) can ask of agentd, which implements `Control`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pleb_agent.web.views import (
        AutostartView,
        ContributionView,
        CurveView,
        HistoryView,
        LinkView,
        LogView,
        PageAddress,
        PreferencesView,
        ProjectFacts,
        ProjectView,
        StatusView,
    )

__all__ = [
    "AttachWish",
    "AutostartWish",
    "BoostWish",
    "Control",
    "DetachWish",
    "LinkWish",
    "LookWish",
    "PageWish",
    "PauseWish",
    "PreferencesWish",
    "PresetWish",
    "RuntimeWish",
    "StopWish",
    "Wish",
]

Seconds = Annotated[float, msgspec.Meta(gt=0, le=31 * 86_400)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies."""


class AttachWish(Wish, frozen=True):
    """Attach a project, or join an account with the text of `link`."""

    link: Text
    invite: str | None = None
    name: Annotated[str, msgspec.Meta(max_length=64)] = ""


class LookWish(Wish, frozen=True):
    """Tell what a project is before attaching it."""

    link: Text


class DetachWish(Wish, frozen=True):
    """Leave a project."""

    project: str


class LinkWish(Wish, frozen=True):
    """Give the text that joins another PC to this project's account."""

    project: str


class PauseWish(Wish, frozen=True):
    """Hold still for so long, until tomorrow morning, or until resumed."""

    seconds: Seconds | None = None
    until_tomorrow: bool = False


class BoostWish(Wish, frozen=True):
    """Run now, whoever uses the PC."""

    seconds: Seconds = 3600.0


class StopWish(Wish, frozen=True):
    """End the agent, at once or after the unit in hand."""

    finish: bool = False


class PreferencesWish(Wish, frozen=True):
    """Change preferences: field names and new values."""

    changes: dict[str, Any]


class PresetWish(Wish, frozen=True):
    """Take a preset: quiet, balanced or full."""

    name: str


class AutostartWish(Wish, frozen=True):
    """Start with the session, or not."""

    on: bool


class PageWish(Wish, frozen=True):
    """Open the page; with a link, at the welcome to that project."""

    link: Text = ""


class RuntimeWish(Wish, frozen=True):
    """Fetch a torch runtime: cpu, or a GPU's."""

    kind: Annotated[str, msgspec.Meta(max_length=32)] = "cpu"


class Control(Protocol):
    """agentd, seen from its faces. Every method may raise a `PlebError` with one sentence."""

    # -- looking ------------------------------------------------------------------------

    def status(self) -> StatusView:
        """Return what the agent does."""

    def changes(self) -> AsyncIterator[StatusView]:
        """Yield the status now and after each change, at most four times a second."""

    def preferences(self) -> PreferencesView:
        """Return the user's preferences, the presets and the machine."""

    def contribution(self, days: int) -> ContributionView:
        """Return what was given on the last `days` days, and in all."""

    def history(self, *, before: int | None, count: int) -> HistoryView:
        """Return events older than the one with id `before` (None: the newest)."""

    async def curve(self, project: str) -> CurveView:
        """Return how a project got better; asks its coordinator, at most once a minute."""

    def facts(self, project: str) -> ProjectFacts:
        """Return what is known of an attached project."""

    async def look_at(self, wish: LookWish) -> ProjectFacts:
        """Return what a link's project is, without attaching it; nothing is kept."""

    def log(self, lines: int) -> LogView:
        """Return the log's end."""

    def autostart(self) -> AutostartView:
        """Return whether the agent starts with the session."""

    # -- doing --------------------------------------------------------------------------

    async def attach(self, wish: AttachWish) -> ProjectView:
        """Attach a project; return it."""

    async def detach(self, wish: DetachWish) -> ProjectView:
        """Leave a project; return what it was."""

    async def link(self, wish: LinkWish) -> LinkView:
        """Return the text that joins another PC to the account."""

    async def pause(self, wish: PauseWish) -> StatusView:
        """Hold still."""

    async def boost(self, wish: BoostWish) -> StatusView:
        """Run now."""

    async def resume(self) -> StatusView:
        """End a pause or a boost."""

    async def stop(self, wish: StopWish) -> StatusView:
        """End the agent."""

    async def set_preferences(self, wish: PreferencesWish) -> PreferencesView:
        """Change preferences; all of the changes, or none if one is wrong."""

    async def take_preset(self, wish: PresetWish) -> PreferencesView:
        """Take a preset; what it does not name stays."""

    async def set_autostart(self, wish: AutostartWish) -> AutostartView:
        """Start with the session, or not."""

    async def fetch_runtime(self, wish: RuntimeWish) -> StatusView:
        """Begin to fetch a torch runtime; `status().runtime` tells how far it is."""

    async def install_update(self) -> StatusView:
        """Install the newer release of a self-updating archive, then start it."""

    async def close_welcome(self) -> StatusView:
        """The user has seen the first run to its end."""

    def page_address(self, wish: PageWish) -> PageAddress:
        """Return an address that opens the page once."""
