"""Alerts: a command or a webhook that hears when nobody can work, and when somebody can again."""

from __future__ import annotations

import logging
import shlex
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import httpx
import msgspec

from pleb_coordinator.admin.access import now
from pleb_coordinator.core.waiting import Level
from pleb_shared.errors import PlebError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_coordinator.home.config import Alerts
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["Alert", "Alerter"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS: Final = 15.0
_DELIVERY_SECONDS: Final = 30.0


class Alert(msgspec.Struct, frozen=True):
    """What an alert says."""

    event: Literal["stuck", "goes_on"]
    project: str
    cause: str
    """As in `status --json` (`waiting_for`)."""
    sentence: str
    since: float
    """Since when it lasts, or lasted."""


@dataclass
class Alerter:
    """Looks at all projects now and then, in a thread of its own, so that nothing waits for it.

    Each trouble is told once: when it has lasted `after_seconds`, and when it is over.
    """

    alerts: Alerts
    read: Callable[[], list[ProjectStatus]]
    report: Callable[[str], None]
    clock: Callable[[], float] = now
    _since: dict[str, float] = field(default_factory=dict)
    _told: dict[str, Alert] = field(default_factory=dict)
    _next_look: float = 0.0
    _looking: threading.Thread | None = None

    def look(self) -> None:
        """Begin to look if it is time to; never waits."""
        if self._looking is not None and self._looking.is_alive():
            return
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            self._looking = threading.Thread(target=self.look_now, daemon=True, name="alerts")
            self._looking.start()

    def look_now(self) -> None:
        """Look at all projects, and deliver what there is to tell."""
        try:
            for alert in self.due(self.read()):
                self.deliver(alert)
        except (PlebError, OSError) as error:
            _log.warning("Could not look whether anybody can work", exc_info=error)

    def due(self, statuses: list[ProjectStatus]) -> list[Alert]:
        """Return what is to be told now, and remember that it was."""
        found = []
        for status in statuses:
            name = status.project
            if status.waiting_level == Level.STUCK:
                since = self._since.setdefault(name, self.clock())
                told = self._told.get(name)
                lasted = self.clock() - since >= self.alerts.after_seconds
                if lasted and (told is None or told.cause != status.waiting_for):
                    alert = Alert("stuck", name, status.waiting_for, status.waiting, since)
                    self._told[name] = alert
                    found.append(alert)
                continue
            self._since.pop(name, None)
            if (told := self._told.pop(name, None)) is not None:
                alert = Alert("goes_on", name, told.cause, status.waiting, told.since)
                found.append(alert)
        return found

    def deliver(self, alert: Alert) -> None:
        """Run the command and post to the webhook; what fails is reported and tried once only."""
        body = msgspec.json.encode(alert)
        if self.alerts.command:
            try:
                subprocess.run(
                    shlex.split(self.alerts.command),
                    input=body,
                    timeout=_DELIVERY_SECONDS,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self.report(f"The alert's command failed: {error}. See [alerts] in the settings.")
        if self.alerts.webhook:
            try:
                headers = {"content-type": "application/json"}
                httpx.post(
                    self.alerts.webhook, content=body, headers=headers, timeout=_DELIVERY_SECONDS
                ).raise_for_status()
            except httpx.HTTPError as error:
                self.report(f"The alert's webhook failed: {error}. See [alerts] in the settings.")
