"""Every statement of the store is one that PostgreSQL understands, too."""

from __future__ import annotations

import contextlib
import re

import psycopg

from pleb_coordinator.store.postgres import PostgresConnection
from pleb_shared.errors import Refusal
from tests.conformance.statements import statements
from tests.postgres import shared_postgres


def texts():
    for name, value in statements().items():
        for text in (value,) if isinstance(value, str) else value:
            yield name, text


def test_postgres_takes_every_statement():
    wrong = {}
    url = shared_postgres().emptied_database()
    with contextlib.closing(PostgresConnection(url, 5.0)) as connection:
        for name, text in texts():
            connection.begin(write=False)
            try:
                names = re.findall(r":(\w+)", text)
                connection.execute(text, **{n: 0 if f"LIMIT :{n}" in text else None for n in names})
                connection.settle()
            except Refusal:
                pass  # understood, and not done: to the store, a server that only reads is away
            except psycopg.Error as error:
                wrong[name] = str(error)
            finally:
                connection.rollback()
    assert not wrong
