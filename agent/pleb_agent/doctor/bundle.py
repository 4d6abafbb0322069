"""`pleb-agent doctor --bundle`: a report that can be shown to strangers.

It contains findings, versions, the preferences and the end of the logs. Keys, tokens and the
page's secret are never read; passwords in addresses, account keys in links and the user's folder
are removed from every text.
"""

from __future__ import annotations

import json
import platform
import zipfile
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_agent import AGENT
from pleb_agent.control.live_preferences import read_preferences
from pleb_agent.program.without_secrets import without_secrets
from pleb_agent.sensors.machine import read_machine
from pleb_agent.worker.child import log_file
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_agent.app.home import Home
    from pleb_agent.doctor.checks import Finding

__all__ = ["write_bundle"]

_LOG_BYTES: Final = 512 * 1024


def write_bundle(home: Home, findings: Sequence[Finding], target: Path) -> list[str]:
    """Write the report as a .zip; return the names of what is in it.

    Raises:
        InputError: the file cannot be written, or exists already.
    """
    packages = {"torch", "psutil", "httpx", "starlette", "uvicorn", "jeepney", "cryptography"}
    system = {
        "agent": AGENT,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "machine": asdict(read_machine()),
        "packages": {
            one.metadata["Name"]: one.version
            for one in distributions()
            if (one.metadata["Name"] or "").lower() in packages
        },
    }
    try:
        preferences = _pretty(msgspec.to_builtins(read_preferences(home.preferences)))
    except PlebError as error:
        preferences = str(error)
    parts = {
        "findings.json": _pretty([asdict(one) for one in findings]),
        "system.json": _pretty(system),
        "preferences.json": preferences,
        "agentd.jsonl": _end_of(home.log),
        "worker.log": _end_of(log_file(home.work)),
    }
    folder = str(Path.home())
    try:
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as bundle:
            for name, text in parts.items():
                bundle.writestr(name, without_secrets(text, folder))
    except FileExistsError as error:
        raise InputError(f"{target} exists already; choose another file.") from error
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}).") from error
    return list(parts)


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"(not there: {error.strerror})"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, default=str)
