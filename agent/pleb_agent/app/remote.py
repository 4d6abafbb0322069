"""How a command reaches the running agentd of a home."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pleb_shared.errors import PlebError
from pleb_system.exit_codes import ExitCode
from pleb_system.processes import is_alive
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from pleb_agent.app.home import Home

__all__ = ["AgentdAnswerError", "NotRunningError", "Remote"]

_MOST_BYTES: Final = 10_000


class NotRunningError(PlebError):
    """No agentd runs in this home."""

    exit_code = ExitCode.NOT_RUNNING

    def __init__(self, message: str = "The agent is not running: `pleb-agent start`.") -> None:
        super().__init__(message)


class AgentdAnswerError(PlebError):
    """agentd answered with an error; its sentence and exit code are passed on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Remote:
    """Calls the control API of the agentd that `HOME/agentd.json` names; `pid` is its process.

    Raises:
        NotRunningError: none is named, or its process is gone; another program may use its port.
    """

    def __init__(self, home: Home) -> None:
        try:
            place = json.loads(read_regular(home.control, _MOST_BYTES))
            self.port = int(place["port"])
            self._base = f"http://127.0.0.1:{self.port}/api/"
            self._token = str(place["token"])
            self.pid = int(place["pid"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotRunningError from error
        if not is_alive(self.pid):
            raise NotRunningError

    def get(self, name: str) -> dict[str, Any]:
        """Return the agent's answer.

        Raises:
            NotRunningError: there is no answer (the process was killed).
            AgentdAnswerError: the agent refuses.
        """
        return self._call("GET", name, None)

    def post(self, name: str, /, **body: object) -> dict[str, Any]:
        """Send a request; raises as `get`."""
        return self._call("POST", name, body)

    def _call(self, method: str, name: str, body: dict[str, object] | None) -> dict[str, Any]:
        import httpx

        try:
            with httpx.Client(trust_env=False, timeout=120, verify=False) as http:  # noqa: S501 - plain HTTP on loopback
                answer = http.request(
                    method,
                    self._base + name,
                    json=body,
                    headers={"authorization": f"Bearer {self._token}"},
                )
        except httpx.TransportError as error:
            raise NotRunningError from error
        try:
            value: dict[str, Any] = answer.json()
        except ValueError as error:
            raise AgentdAnswerError(
                f"The agent answered with an error (status {answer.status_code}): `pleb-agent logs`"
                " says more.",
                ExitCode.ERROR,
            ) from error
        if answer.is_success:
            return value
        raise AgentdAnswerError(str(value.get("message")), int(value.get("exit_code", 1)))
