"""Migrates a store to the newest schema. Only this module imports SQLAlchemy and alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pleb_coordinator.store.engine import SCHEMA_REVISION, check_revision
from pleb_coordinator.store.transaction import postgres_engine
from pleb_shared.errors import InputError

__all__ = ["migrate"]

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_OF_FILE: Final = (
    "check the owner and the permissions of its folder and of all in it, and the free disk space"
)
_OF_DATABASE: Final = "let this user own the database"


def migrate(place: Path | str) -> None:
    """Create the store at `place`, or migrate an older one; harmless to repeat.

    Args:
        place: a file, or the address of a database that exists.

    Raises:
        InputError: a newer release made it, or it cannot be reached or written.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine, shown, remedy = _engine(place)
    try:
        with engine.begin() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and found > SCHEMA_REVISION:
                check_revision(shown, found)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise InputError(f"{shown} cannot be written ({error.orig}): {remedy}.") from error


def _engine(place: Path | str) -> tuple[Engine, str, str]:
    """Return SQLAlchemy's engine, the place as it may be shown, and what to do if it fails."""
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        return create_engine(f"sqlite:///{place}", poolclass=NullPool), str(place), _OF_FILE
    postgres = postgres_engine()
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: postgres.connect(place), poolclass=NullPool
    )
    return engine, postgres.without_password(place), _OF_DATABASE
