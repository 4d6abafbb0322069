"""`coordinator.toml`: read once by each process, versioned, migrated by a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_toml
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["CONFIG_VERSION", "CoordinatorConfig", "config_text", "read_config"]

CONFIG_VERSION: Final = 1

MIGRATIONS: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""`MIGRATIONS[n]` turns version n of the file into version n + 1."""


@dataclass(frozen=True)
class CoordinatorConfig:
    """The operator's settings. Command-line arguments override the file."""

    version: int = CONFIG_VERSION
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is every address of the machine."""
    port: int = LIMITS.default_port
    url: str = ""
    """The address in attach links; empty: the one that the server listens on."""
    tls: Literal["off", "self-signed"] = "off"
    requests_per_second: float = 50.0
    """Average limit for one network address; loopback is exempt."""
    request_burst: int = 500
    """How many requests one address may send at once after a pause."""
    waiters: int = 2000
    """Requests that may wait for work at the same time."""
    log_bytes: int = 10_000_000
    """Size at which a log file is rotated; five are kept."""


_SETTINGS: Final = frozenset(field.name for field in fields(CoordinatorConfig))


def config_text(config: CoordinatorConfig) -> str:
    """Return `config` as a file with a comment for each setting."""
    return f"""\
# The coordinator's settings. Every process reads this file once, when it starts.
version = {config.version}

# Where to listen. 0.0.0.0 is every address of this machine.
host = {_quoted(config.host)}
port = {config.port}

# The address in attach links, e.g. "https://pleb.example.org". Empty: where the server listens.
url = {_quoted(config.url)}

# "self-signed" makes a certificate and puts its pin into attach links: for a LAN without a proxy.
tls = {_quoted(config.tls)}

# Limits for one network address; loopback is exempt.
requests_per_second = {config.requests_per_second}
request_burst = {config.request_burst}

# Requests that may wait for work at the same time.
waiters = {config.waiters}

# Logs are rotated at this size; five of each are kept.
log_bytes = {config.log_bytes}
"""


def read_config(path: Path) -> CoordinatorConfig:
    """Return the file's settings, migrated to the current version.

    Raises:
        InputError: the file is missing, is not TOML, or has a field that does not exist.
    """
    try:
        values = strict_toml.parse(path.read_text("utf-8"))
    except FileNotFoundError as error:
        message = f"{path} does not exist. Create a home with `pleb-coordinator init`."
        raise InputError(message) from error
    except (strict_toml.TomlError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}. Correct that line.") from error
    version = values.get("version")
    if not isinstance(version, int) or not 1 <= version <= CONFIG_VERSION:
        message = (
            f"{path} has version {str(version)[:20]}; this release reads 1 to {CONFIG_VERSION}."
        )
        raise InputError(message)
    for number in range(version, CONFIG_VERSION):
        values = MIGRATIONS[number](values) | {"version": number + 1}
    unknown = next((name for name in values if name not in _SETTINGS), None)
    if unknown is not None:
        raise InputError(f"{path}: there is no setting {unknown[:40]!r}. Remove that line.")
    try:
        return msgspec.convert(values, CoordinatorConfig)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InputError(f"{path}: {error}. Correct that setting.") from error


def _quoted(text: str) -> str:
    """A JSON string is a TOML basic string too."""
    return msgspec.json.encode(text).decode()
