"""`init` and `migrate`: setting up a home and updating its store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pleb_coordinator.backups.move import move_home
from pleb_coordinator.home.config import (
    CoordinatorConfig,
    check_blobs,
    check_networks,
    check_store,
    check_url,
    config_text,
    read_config,
    store_place,
)
from pleb_coordinator.home.keys import make_secret_file, read_online_key
from pleb_coordinator.steps import open_blobs
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "Places", "make_home"]


def make_home(
    home: Home,
    url: str | None = None,
    own_networks: Sequence[str] = (),
    places: Places | None = None,
) -> CoordinatorConfig:
    """Create what the home lacks; return its configuration. Harmless to repeat.

    The configuration is written last: a home that has one is complete. `url` and `own_networks`
    replace what it says; `places` is where the rows and files of a new home are.

    Raises:
        InputError: the folder cannot be written, its configuration is wrong, a place cannot be
            used, or the home has its rows or files elsewhere.
    """
    places = places or Places()
    check_store("--store", places.store)
    check_blobs("--blobs", places.blobs)
    check_url("--s3-endpoint", places.endpoint)
    try:
        for folder in home.folders:
            folder.mkdir(parents=True, exist_ok=True)
        home.online_key_file.parent.chmod(0o700)
        make_secret_file(home.secret_file)
        make_secret_file(home.online_key_file)
    except OSError as error:
        message = f"{home.path} cannot be written ({error.strerror}): give another --home."
        raise InputError(message) from error
    if not home.config_file.exists():
        new = places.of(CoordinatorConfig())
        blobs = open_blobs(home, new)
        blobs.check()
        _migrate(store_place(home, new))
        _write(home, new)
    before = read_config(home.config_file)
    if places.of(before) != before:
        message = (
            f"{home.path} has its rows or files elsewhere: give another --home for a new "
            "coordinator."
        )
        raise InputError(message)
    networks = dataclasses.replace(before.networks, own=tuple(own_networks) or before.networks.own)
    config = dataclasses.replace(before, url=url or before.url, networks=networks)
    if config != before:
        check_networks("--own-network", networks.own)
        check_url("--url", config.url)
        _write(home, config)
    return config


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a home's rows and files are; empty: in the home, or as it says."""

    store: str = ""
    blobs: str = ""
    endpoint: str = ""

    @classmethod
    def given(cls, options: argparse.Namespace) -> Places:
        """Return what the command line says."""
        return cls(options.store or "", options.blobs or "", options.s3_endpoint or "")

    def of(self, config: CoordinatorConfig) -> CoordinatorConfig:
        """Return the configuration with these places."""
        s3 = dataclasses.replace(config.s3, endpoint=self.endpoint or config.s3.endpoint)
        return dataclasses.replace(
            config, store=self.store or config.store, blobs=self.blobs or config.blobs, s3=s3
        )


def init(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Create the home and show what is in it."""
    before = home.exists
    config = make_home(home, options.url, options.own_network, Places.given(options))
    key = read_online_key(home.online_key_file)
    value = {"home": str(home.path), "created": not before, "online_key": key.public}
    done = "exists already" if before else "is ready"
    lines = [
        f"{home.path} {done}.",
        f"  configuration  {home.config_file}",
        f"  online key     {key.fingerprint[:16]}...",
        f"  attach links   {config.url or 'start with the address that `serve` listens on'}",
        "Next: pleb-coordinator serve",
    ]
    output.result(value, lines)
    return 0


def migrate(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Bring the store's schema up to date; or move rows and files to another place."""
    if options.to:
        return _move(home, options, output)
    place = store_place(home)
    if isinstance(place, Path) and not place.exists():
        message = f"There is no store at {place}: run `pleb-coordinator init`."
        raise InputError(message)
    _migrate(place)
    Store(place).close()  # says so if it is of a development version
    output.result({"migrated": True}, ["The store is up to date."])
    return 0


def _move(home: Home, options: argparse.Namespace, output: Output) -> int:
    before = read_config(home.config_file)
    after = before
    for place in options.to:
        if place == "sqlite":
            after = dataclasses.replace(after, store="")
        elif place == "files":
            after = dataclasses.replace(after, blobs="")
        elif place.startswith("s3://"):
            check_blobs("--to", place)
            after = Places(blobs=place, endpoint=options.s3_endpoint or "").of(after)
        else:
            check_store("--to", place)
            after = Places(store=place).of(after)
    check_url("--s3-endpoint", after.s3.endpoint)
    if after == before:
        message = f"{home.path} is there already."
        raise InputError(message)
    public = before.s3.public
    if (before.blobs, before.s3.endpoint) != (after.blobs, after.s3.endpoint):
        # it is an address of the old place
        after = dataclasses.replace(after, s3=dataclasses.replace(after.s3, public=""))
    moved = move_home(home, before, after, lambda config: _write(home, config))
    lines = [
        f"Moved {moved.rows} rows, {moved.blobs} blobs and {moved.deltas} results.",
        "Start it: pleb-coordinator serve",
        "What is left at the old place is not used any more, and may be removed.",
    ]
    if public != after.s3.public:
        lines.append("Results come to `serve` now: set `public` in [s3] for a new bucket.")
    output.result(dataclasses.asdict(moved), lines)
    return 0


def _migrate(place: Path | str) -> None:
    from pleb_coordinator.store.migrate import migrate as migrate_store

    migrate_store(place)


def _write(home: Home, config: CoordinatorConfig) -> None:
    """Write the configuration; only its owner may read one that may have a password in it."""
    secret = bool(config.store or config.s3.secret_access_key)
    write_durably(home.config_file, config_text(config).encode(), private=secret)


COMMANDS: Final = {
    "init": init,
    "migrate": migrate,
}
