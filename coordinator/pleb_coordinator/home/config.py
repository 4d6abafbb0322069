"""`coordinator.toml`: read once by each process, versioned, migrated by a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from pleb_coordinator.core.newcomers import NewcomerBounds
from pleb_coordinator.core.voices import Network, identifies_site
from pleb_shared.errors import InputError
from pleb_shared.protocol import strict_toml
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pleb_coordinator.home.layout import Home

__all__ = [
    "CONFIG_VERSION",
    "S3",
    "Alerts",
    "CoordinatorConfig",
    "Metrics",
    "Networks",
    "Retention",
    "check_blobs",
    "check_networks",
    "check_store",
    "check_url",
    "config_text",
    "read_config",
    "store_place",
]

CONFIG_VERSION: Final = 1

MIGRATIONS: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""`MIGRATIONS[n]` turns version n of the file into version n + 1."""


Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Days = Annotated[float, msgspec.Meta(ge=0, le=1_000_000_000)]


@dataclass(frozen=True)
class Networks:
    """Who is one person, and how many new PCs a network may bring; see `core.voices`."""

    own: tuple[str, ...] = ()
    """The operator's own networks (CIDR), whose PCs may confirm each other by account alone."""
    new_hosts_per_hour: Count = 30
    new_hosts_per_day: Count = 100
    unproven_hosts: Count = 100
    """New PCs of one network that are at work at the same time and not proven yet."""
    own_new_hosts_per_hour: Count = 500
    """The same for each of the own networks, and for addresses that identify nobody."""
    own_new_hosts_per_day: Count = 2000
    own_unproven_hosts: Count = 2000

    @cached_property
    def own_networks(self) -> tuple[Network, ...]:
        """The own networks. Raises `ValueError`: one is not a network."""
        return tuple(ip_network(text) for text in self.own)

    def bounds(self, network: str) -> NewcomerBounds:
        """Return how many new hosts may come from the network of that name."""
        if identifies_site(network):
            return NewcomerBounds(
                self.new_hosts_per_hour, self.new_hosts_per_day, self.unproven_hosts
            )
        return NewcomerBounds(
            self.own_new_hosts_per_hour, self.own_new_hosts_per_day, self.own_unproven_hosts
        )


@dataclass(frozen=True)
class Retention:
    """What is kept of what has served its purpose; 0: everything, for ever."""

    history_days: Days = 30
    """Events, and results that did not count, of closed rounds."""
    host_days: Count = 180
    """Hosts since they were last seen; their account keeps its credit."""
    new_host_days: Count = 14
    """Hosts that have done nothing, and calibrations that no class needs."""
    audit_days: Count = 730
    """What operators did."""
    versions: Count = 1000
    """Versions of a project that can be recomputed, or at least read, beside the milestones."""
    result_bytes: Bytes = 1_000_000_000
    """Of the results that a project's versions were made of."""
    version_bytes: Bytes = 1_000_000_000
    """Of the files that a project's versions are built from, beside the milestones."""
    milestones: Count = 8
    """Older versions that stay readable, spread evenly; twice as far apart now and then."""


@dataclass(frozen=True)
class Alerts:
    """Whom to tell that nobody can work for a project, and that somebody can again."""

    command: str = ""
    """A program that gets the alert as JSON on its standard input; empty: none."""
    webhook: str = ""
    """An http(s) address to which the same JSON is posted; empty: none."""
    after_seconds: Count = 600
    """How long it must have lasted."""


@dataclass(frozen=True)
class Metrics:
    """Where each process answers Prometheus."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_000)] = 0
    """Of the HTTP process; the background process has the next one. 0: none, and `/metrics` is a
    page of the project's own server."""


@dataclass(frozen=True)
class S3:
    """How the bucket of `blobs` is reached; what is empty comes from the environment (AWS_...)."""

    endpoint: str = ""
    """The address of a server that is not Amazon's."""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    public: str = ""
    """The address of `blobs` for hosts, which put large results there; empty: they do not."""


@dataclass(frozen=True)
class CoordinatorConfig:
    """The operator's settings. Command-line arguments override the file."""

    version: int = CONFIG_VERSION
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is every address of the machine."""
    port: int = LIMITS.default_port
    url: str = ""
    """The address in attach links; empty: the one that the server listens on."""
    releases: str = ""
    """A page where volunteers get the agent, beside the packages in `downloads/`; empty: none."""
    store: str = ""
    """The address of a PostgreSQL database; empty: a SQLite file in the home."""
    blobs: str = ""
    """A bucket of S3 and the beginning of names there, s3://BUCKET/PREFIX; empty: the home."""
    tls: Literal["off", "self-signed"] = "off"
    requests_per_second: float = 50.0
    """Average limit for one network address; loopback is exempt."""
    request_burst: int = 500
    """How many requests one address may send at once after a pause."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies, whose X-Forwarded-For is believed."""
    connections: int = 4096
    """Open connections, at most."""
    connections_per_address: int = 512
    """Of one network address; loopback is exempt. A whole campus may share an address."""
    waiters: int = 2000
    """Requests that may wait for work at the same time."""
    log_bytes: int = 10_000_000
    """Size at which a log file is rotated; five are kept."""
    networks: Networks = Networks()
    retention: Retention = Retention()
    alerts: Alerts = Alerts()
    metrics: Metrics = Metrics()
    s3: S3 = S3()


_SETTINGS: Final = frozenset(field.name for field in fields(CoordinatorConfig))
_TABLES: Final = {
    "networks": frozenset(field.name for field in fields(Networks)),
    "retention": frozenset(field.name for field in fields(Retention)),
    "alerts": frozenset(field.name for field in fields(Alerts)),
    "metrics": frozenset(field.name for field in fields(Metrics)),
    "s3": frozenset(field.name for field in fields(S3)),
}


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

# A page where volunteers get the agent, such as that of its releases. The join page links to it
# after the packages that `pleb-coordinator packages` put into this folder. Empty: none.
releases = {_quoted(config.releases)}

# Reverse proxies in front, such as ["127.0.0.1"]: the last address in their X-Forwarded-For that is
# none of them counts as the client's. Nobody else's header is looked at. Without a proxy: [].
proxies = [{", ".join(map(_quoted, config.proxies))}]

# Where the rows are. Empty: in a SQLite file in this folder. Otherwise a PostgreSQL database, such
# as "postgresql://pleb@db.example.org/pleb"; its password is best kept in ~/.pgpass. Many processes
# on many machines may share one. `pleb-coordinator migrate --to` moves a store.
store = {_quoted(config.store)}

# Where models, data and results are. Empty: as files in this folder. Otherwise in a bucket of S3,
# or of what speaks its protocol, such as "s3://bucket/pleb"; see [s3] at the end.
blobs = {_quoted(config.blobs)}

# "self-signed" makes a certificate and puts its pin into attach links: for a LAN without a proxy.
tls = {_quoted(config.tls)}

# Limits for one network address; loopback is exempt.
requests_per_second = {config.requests_per_second}
request_burst = {config.request_burst}
connections_per_address = {config.connections_per_address}

# Connections that may be open at the same time.
connections = {config.connections}

# Requests that may wait for work at the same time.
waiters = {config.waiters}

# Logs are rotated at this size; five of each are kept.
log_bytes = {config.log_bytes}

[networks]
# Your own networks, such as ["10.20.0.0/16"] for a campus: their PCs may confirm each other's
# results if their accounts differ. PCs of any other network are one voice, and so are all PCs with
# private addresses (LAN), all with loopback addresses, and all of carrier-grade NAT.
own = [{", ".join(map(_quoted, config.networks.own))}]

# New PCs that one network (/24 of IPv4, /48 of IPv6) may bring in an hour and in a day, and how
# many of those at work may be without a record. PCs with an invite are exempt; 0 lets only them in.
new_hosts_per_hour = {config.networks.new_hosts_per_hour}
new_hosts_per_day = {config.networks.new_hosts_per_day}
unproven_hosts = {config.networks.unproven_hosts}

# The same for each of your own networks, and for private, loopback and shared addresses.
own_new_hosts_per_hour = {config.networks.own_new_hosts_per_hour}
own_new_hosts_per_day = {config.networks.own_new_hosts_per_day}
own_unproven_hosts = {config.networks.own_unproven_hosts}

[retention]
# What is kept for how long; 0 keeps it for ever. First days, after which rows are removed.
# Events, and results that did not count (`unit show` explains them until then); 0.25 is 6 hours.
history_days = {config.retention.history_days}
# PCs that have not been seen: their account keeps its credit. Those that never did anything go
# sooner, and so do calibrations that are not needed.
host_days = {config.retention.host_days}
new_host_days = {config.retention.new_host_days}
# What operators did (`pleb-coordinator log --audit`).
audit_days = {config.retention.audit_days}
# Of each project, the newest so many versions, as long as all results that went in (`model verify`
# recomputes from them) and all files (models, differences, states of the optimizer) are not larger
# than this. The oldest lose their results first, then their files. What verification and agents
# need stays, however large: about the last {LIMITS.version_lag} versions.
versions = {config.retention.versions}
result_bytes = {config.retention.result_bytes}
version_bytes = {config.retention.version_bytes}
# Of older ones so many stay as models, spread evenly; so does the best one.
milestones = {config.retention.milestones}

[alerts]
# Told when nobody can work for a project until somebody acts, and when it goes on: a program that
# gets JSON on its standard input, and an http(s) address that it is posted to. Empty: none.
command = {_quoted(config.alerts.command)}
webhook = {_quoted(config.alerts.webhook)}
# How long it must have lasted.
after_seconds = {config.alerts.after_seconds}

[metrics]
# Where Prometheus finds /metrics, /health and /ready of each process: of the one that serves HTTP
# at this port, of the background process at the next one. 0: /metrics is public, beside the pages.
host = {_quoted(config.metrics.host)}
port = {config.metrics.port}

[s3]
# For `blobs`. The address of the server, unless it is Amazon's, its region, and an access key. What
# is empty is taken from the environment (AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or
# from the machine's role.
endpoint = {_quoted(config.s3.endpoint)}
region = {_quoted(config.s3.region)}
access_key_id = {_quoted(config.s3.access_key_id)}
secret_access_key = {_quoted(config.s3.secret_access_key)}

# The address of the same bucket and beginning for hosts, such as
# "https://bucket.s3.eu-central-1.amazonaws.com/pleb": they put large results there themselves, with
# signatures of the access key, in projects that name it (`uploads`). Empty: results come here.
public = {_quoted(config.s3.public)}
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
    unknown = [name for name in values if name not in _SETTINGS]
    for table, settings in _TABLES.items():
        inner = values.get(table)
        names = inner if isinstance(inner, dict) else {}
        unknown += [f"{table}.{name}" for name in names if name not in settings]
    if unknown:
        raise InputError(f"{path}: there is no setting {unknown[0][:60]!r}. Remove that line.")
    try:
        config = msgspec.convert(values, CoordinatorConfig)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InputError(f"{path}: {error}. Correct that setting.") from error
    check_networks(f"{path}: networks.own", config.networks.own)
    check_networks(f"{path}: proxies", config.proxies)
    check_url(f"{path}: url", config.url)
    check_url(f"{path}: releases", config.releases)
    check_url(f"{path}: s3.public", config.s3.public)
    check_url(f"{path}: alerts.webhook", config.alerts.webhook)
    check_store(f"{path}: store", config.store)
    check_blobs(f"{path}: blobs", config.blobs)
    check_url(f"{path}: s3.endpoint", config.s3.endpoint)
    return config


def check_store(where: str, store: str) -> None:
    """Check that the text names a database, or is empty.

    Raises:
        InputError: it does not; `where` says where it was written.
    """
    if store and not store.startswith(("postgresql://", "postgres://")):
        raise InputError(
            f"{where}: {store[:80]!r} is not a database: write it as "
            "postgresql://user@db.example.org/pleb, or leave it empty for a file in the home."
        )


def check_blobs(where: str, blobs: str) -> None:
    """Check that the text names a bucket, or is empty.

    Raises:
        InputError: it does not; `where` says where it was written.
    """
    if blobs and not (blobs.startswith("s3://") and blobs[5:].split("/", maxsplit=1)[0]):
        raise InputError(
            f"{where}: {blobs[:80]!r} is no bucket: write it as s3://bucket/pleb, or leave it "
            "empty for files in the home."
        )


def store_place(home: Home, config: CoordinatorConfig | None = None) -> Path | str:
    """Return where the home's store is: a file, or the address of a database.

    Raises:
        InputError: as `read_config`, unless `config` is given.
    """
    return (config or read_config(home.config_file)).store or home.store_file


def check_url(where: str, url: str) -> None:
    """Check that the address is one that browsers and agents can open, or empty.

    Raises:
        InputError: it is not; `where` says where it was written.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        good = good and url.isprintable() and " " not in url
        good = good and not (parts.query or parts.fragment or parts.username is not None)
    except ValueError:
        good = False
    if url and not good:
        raise InputError(
            f"{where}: {url[:80]!r} is not an address: write it as https://pleb.example.org."
        )


def check_networks(where: str, networks: Iterable[str]) -> None:
    """Check that texts are networks or addresses.

    Raises:
        InputError: one is not; `where` says where it was written.
    """
    for text in networks:
        try:
            ip_network(text)
        except ValueError as error:
            try:
                meant = f"write {ip_network(text, strict=False)}"
            except ValueError:
                meant = "write it as 10.20.0.0/16 or 2001:db8::/32"
            raise InputError(f"{where}: {text!r} is not a network: {meant}.") from error


def _quoted(text: str) -> str:
    """A JSON string is a TOML basic string too."""
    return msgspec.json.encode(text).decode()
