"""Migrates a store to the newest schema. Only this module imports SQLAlchemy and alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

__all__ = ["migrate"]

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(path: Path) -> None:
    """Create the store at `path`, or migrate an older one; harmless to repeat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
