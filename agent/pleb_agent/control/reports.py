"""The log and the report for a bug, for the page to save: without secrets."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pleb_agent.program.command import module_command
from pleb_agent.program.without_secrets import without_secrets
from pleb_shared.errors import InputError, PlebError

__all__ = ["Reports"]

_LOG_BYTES: Final = 2 * 2**20
_SECONDS: Final = 180.0
"""The checks start a worker, which takes a while on a busy PC."""


class Reports:
    """Those of one home. One report at a time: it starts a worker to see whether one starts."""

    def __init__(self, home: Path, log_file: Path) -> None:
        self._home = home
        self._log_file = log_file
        self._making = asyncio.Lock()

    def log(self) -> str:
        """Return the end of the log as it is in the file, but for secrets.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        try:
            with self._log_file.open("rb") as file:
                file.seek(max(0, self._log_file.stat().st_size - _LOG_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"The log cannot be read ({error.strerror}).") from error
        return without_secrets(text, str(Path.home()))

    async def report(self) -> bytes:
        """Return the .zip of `pleb-agent doctor --bundle`, made by a process of its own.

        Raises:
            InputError: one is being made already.
            PlebError: it could not be made.
        """
        if self._making.locked():
            raise InputError("A report is being made already; it takes half a minute.")
        async with self._making:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder, "report.zip")
                command = module_command("pleb_agent.cli")
                words = ["doctor", "--home", str(self._home), "--bundle", str(target)]
                process = await asyncio.create_subprocess_exec(
                    *command,
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                try:
                    async with asyncio.timeout(_SECONDS):
                        await process.wait()
                except TimeoutError:
                    pass
                finally:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
                try:
                    return await asyncio.to_thread(target.read_bytes)
                except OSError as error:
                    message = "The report could not be made: run `pleb-agent doctor --bundle FILE`."
                    raise PlebError(message) from error
