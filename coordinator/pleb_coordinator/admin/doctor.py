"""Checks everything that can be wrong with a home, and says how to fix it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import sqlite3
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import msgspec

from pleb_coordinator.admin.access import running_server
from pleb_coordinator.admin.command import Command, Desk, Value
from pleb_coordinator.admin.public_bucket import fault_of_public
from pleb_coordinator.core.permission import permission_warning
from pleb_coordinator.core.records import FileKind
from pleb_coordinator.core.voices import voices
from pleb_coordinator.home.config import read_config, store_place
from pleb_coordinator.home.keys import OnlineKeys, is_private, read_secret
from pleb_coordinator.home.layout import LastBackup
from pleb_coordinator.steps import open_blobs
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import PlebError
from pleb_system.durations import shown_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pleb_coordinator.core.records import Project
    from pleb_coordinator.home.config import CoordinatorConfig
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["COMMANDS", "Check", "FindFaults", "Findings"]

_LEAST_FREE_BYTES: Final = 2**30
_READ_BYTES: Final = 2**20
_RELEASED: Final = 1_760_000_000
"""October 2025: a clock before that is wrong."""
_DAY_SECONDS: Final = 86_400
_MISSED: Final = 2.5
"""With the last backup so many intervals ago, two have been missed."""
_HOSTS: Final = 1000
_FEW: Final = 3
"""Accounts below which it is no wonder if they are one person's."""


class Check(Value, frozen=True):
    """One check; `found` says what was found, and how to fix it if not `good`."""

    name: str
    good: bool
    found: str


class Findings(Value, frozen=True):
    """All checks, and whether none found a fault."""

    good: bool
    checks: list[Check]


class FindFaults(Command[Findings], frozen=True):
    """Check everything that can be wrong."""

    words: ClassVar[str] = "doctor"
    blobs: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 200
    """How many are rehashed at most."""

    def carry_out(self, desk: Desk) -> Findings:
        """Run all checks."""
        found = list(checks(desk, blobs=self.blobs))
        return Findings(all(check.good for check in found), found)


def checks(desk: Desk, *, blobs: int) -> Iterator[Check]:
    """Yield all checks; without a configuration there is only one."""
    home, now = desk.home, desk.clock()
    try:
        config = read_config(home.config_file)
    except PlebError as error:
        yield Check("configuration", good=False, found=str(error))
        return
    yield Check("configuration", good=True, found=str(home.config_file))
    yield _disk(home)
    yield from _keys(home)
    yield from _store(home, now)
    yield _clock(now)
    yield _port(desk, config.host, config.port)
    yield _bucket(home, config, blobs) if config.blobs else _blobs(home.blobs, blobs)
    yield _backup(home, now)


def _backup(home: Home, now: float) -> Check:
    """Whether backups are made as often as it was meant."""
    try:
        last = msgspec.json.decode(home.last_backup_file.read_bytes(), type=LastBackup)
    except (OSError, msgspec.DecodeError):
        return Check("backup", good=True, found="none was made yet: see `backup --help`")
    age = now - last.at
    found = f"{shown_duration(max(age, 0.0))} ago, in {last.folder}"
    if last.every_seconds and age > _MISSED * last.every_seconds:
        due = shown_duration(last.every_seconds)
        return Check("backup", good=False, found=f"{found}, not every {due}: start `backup` again")
    return Check("backup", good=True, found=found)


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.path).free
    found = f"{free / 2**30:.1f} GiB are free"
    good = free >= _LEAST_FREE_BYTES
    return Check("disk", good, found if good else f"{found}: free at least 1 GiB")


def _keys(home: Home) -> Iterator[Check]:
    for name, path in (("online key", home.online_key_file), ("secret", home.secret_file)):
        try:
            read_secret(path)
        except PlebError as error:
            yield Check(name, good=False, found=str(error))
            continue
        good = is_private(path)
        yield Check(name, good, "only its owner can read it" if good else f"chmod 600 {path}")


def _store(home: Home, now: float) -> Iterator[Check]:
    try:
        place = store_place(home)
        store = Store(place)
    except PlebError as error:
        yield Check("store", good=False, found=str(error))
        return
    with store.read() as tx:
        projects = [tx.projects.find(name) for name in tx.projects.names()]
        of_voices = [check for project in projects if (check := _voices(tx, project, now))]
    store.close()
    yield from of_voices
    if isinstance(place, Path):
        yield _integrity(place)
    yield Check("store", good=True, found=f"{len(projects)} projects")
    try:
        held = {key.public for key in OnlineKeys(home).all()}
    except PlebError:  # `_keys` says which cannot be read
        held = {project.metadata.delegation.online_key for project in projects}
    for project in projects:
        delegation = project.metadata.delegation
        days = (delegation.expires_at - now) / _DAY_SECONDS
        name = f"permission of {project.name}"
        warning = permission_warning(project.name, delegation.expires_at, now)
        if delegation.online_key not in held:
            found = "names a key that this home lacks: restore keys/, or have it renewed"
            yield Check(name, good=False, found=found)
        else:
            yield Check(name, days > 0, warning or f"valid for {days:.1f} more days")


def _voices(tx: Transaction, project: Project, now: float) -> Check | None:
    """Whether the volunteers of the last day can confirm one another; None: too few to say."""
    since = now - _DAY_SECONDS
    hosts = [host for host in tx.hosts.of_project(project.id, limit=_HOSTS) if not host.trusted]
    parties = [tx.hosts.party(host, now) for host in hosts if host.last_asked > since]
    accounts = len({party.account for party in parties})
    if accounts < _FEW:
        return None
    name, found = f"voices of {project.name}", voices(parties)
    if found > 1 or tx.hosts.trusted(project.id, since):
        return Check(name, good=True, found=f"{accounts} accounts, {found} independent")
    networks = ", ".join(sorted({name for party in parties for name in party.networks})[:3])
    return Check(
        name,
        good=False,
        found=f"{accounts} accounts are one voice, from {networks}: run a trusted host "
        "(`serve --with-agent`), or name in coordinator.toml your proxy, which has to send "
        "X-Forwarded-For (proxies), or your own network (networks.own)",
    )


def _integrity(path: Path) -> Check:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    good = mode == "wal" and result == "ok"
    found = f"journal mode {mode}, log of {size / 2**20:.1f} MiB, check: {result}"
    return Check("store file", good, found if good else f"{found}; restore a backup")


def _clock(now: float) -> Check:
    good = now > _RELEASED
    return Check("clock", good, "plausible" if good else "years behind: turn on NTP")


def _port(desk: Desk, host: str, port: int) -> Check:
    if running_server(desk.home) is not None:
        return Check("port", good=True, found=f"served at {desk.links.url}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            found = f"{host}:{port}: {error.strerror}; choose another in coordinator.toml"
            return Check("port", good=False, found=found)
    return Check("port", good=True, found=f"{host}:{port} is free")


def _bucket(home: Home, config: CoordinatorConfig, most: int) -> Check:
    """Reread and rehash up to `most` blobs of a bucket; try its address for hosts."""
    try:
        found = open_blobs(home, config)
        found.check()
        names = [name for name, _ in islice(found.stored(FileKind.BLOB), most)]
        for name in names:
            found.get(name)
        fault = "" if found.signer is None else fault_of_public(found, found.signer)
    except PlebError as error:
        return Check("blobs", good=False, found=str(error))
    if fault:
        return Check("blobs", good=False, found=fault)
    return Check("blobs", good=True, found=f"{len(names)} of {config.blobs} were rehashed")


def _blobs(folder: Path, most: int) -> Check:
    """Rehash up to `most` blobs."""
    hashed, damaged = 0, []
    for path in islice((p for p in folder.glob("??/*") if not p.name.startswith(".")), most):
        hashed += 1
        if _digest(path) != path.name:
            damaged.append(path.name[:12])
    if damaged:
        listed = ", ".join(damaged)
        return Check("blobs", good=False, found=f"damaged: {listed}; restore a backup")
    return Check("blobs", good=True, found=f"{hashed} were rehashed and are intact")


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            hasher.update(part)
    return hasher.hexdigest()


COMMANDS: Final = (FindFaults,)
