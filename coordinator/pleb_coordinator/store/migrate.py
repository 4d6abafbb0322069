"""Migrates a store to the newest schema. Only this module imports SQLAlchemy and alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pleb_coordinator.store.connection import SCHEMA_REVISION, newer_schema
from pleb_shared.errors import InputError

__all__ = ["migrate"]

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(path: Path) -> None:
    """Create the store at `path`, or migrate an older one; harmless to repeat.

    Raises:
        InputError: a newer release made it, or it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    try:
        with engine.begin() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and found > SCHEMA_REVISION:
                raise newer_schema(path, found)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        message = (
            f"{path} cannot be written ({error.orig}): check the owner and the permissions of its "
            "folder and of all in it, and the free disk space."
        )
        raise InputError(message) from error
