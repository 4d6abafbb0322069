"""`init` and `migrate`: setting up a home and updating its store."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from pleb_coordinator.home.config import (
    CoordinatorConfig,
    check_networks,
    check_url,
    config_text,
    read_config,
)
from pleb_coordinator.home.keys import make_secret_file, read_online_key
from pleb_coordinator.store.transaction import Store
from pleb_shared.errors import InputError
from pleb_system.durable import write_durably

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS", "make_home"]


def make_home(
    home: Home, url: str | None = None, own_networks: Sequence[str] = ()
) -> CoordinatorConfig:
    """Create what the home lacks; return its configuration. Harmless to repeat.

    The configuration is written last: a home that has one is complete. `url` and `own_networks`
    replace what it says.

    Raises:
        InputError: the folder cannot be written, or its configuration is wrong.
    """
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
        _migrate(home)
        write_durably(home.config_file, config_text(CoordinatorConfig()).encode())
    before = read_config(home.config_file)
    networks = dataclasses.replace(before.networks, own=tuple(own_networks) or before.networks.own)
    config = dataclasses.replace(before, url=url or before.url, networks=networks)
    if config != before:
        check_networks("--own-network", networks.own)
        check_url("--url", config.url)
        write_durably(home.config_file, config_text(config).encode())
    return config


def init(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Create the home and show what is in it."""
    before = home.exists
    config = make_home(home, options.url, options.own_network)
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


def migrate(home: Home, _: argparse.Namespace, output: Output) -> int:
    """Bring the store's schema up to date."""
    if not home.store_file.exists():
        message = f"There is no store at {home.store_file}: run `pleb-coordinator init`."
        raise InputError(message)
    _migrate(home)
    Store(home.store_file).close()  # says so if it is of a development version
    output.result({"migrated": True}, ["The store is up to date."])
    return 0


def _migrate(home: Home) -> None:
    from pleb_coordinator.store.migrate import migrate as migrate_store

    migrate_store(home.store_file)


COMMANDS: Final = {
    "init": init,
    "migrate": migrate,
}
