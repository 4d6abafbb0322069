"""One look at a signal: its number now, or a sentence why there is none.

Called in a thread: everything here may block, with a bound.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from pleb_agent.core.sentence import say
from pleb_agent.core.signals import SENSOR_PREFIX, Source, number_of
from pleb_shared.errors import PlebError
from pleb_system.regular_files import read_regular
from pleb_system.transport import open_http

if TYPE_CHECKING:
    from pleb_agent.core.sentence import Sentence, Value
    from pleb_agent.core.signals import Signal

__all__ = ["SignalError", "SignalReader", "number_in", "read_token"]

_TIMEOUT: Final = httpx.Timeout(4.0)
_MOST_BYTES: Final = 512 * 1024
_SHOWN: Final = 60


class SignalError(PlebError):
    """A signal cannot be read; the sentence says what to do."""

    def __init__(self, template: str | Sentence, /, **values: Value) -> None:
        self.sentence = say(template, **values)
        super().__init__(str(self.sentence))


class SignalReader:
    """Reads one signal again and again; keeps its connection.

    `proxy`: the preference of that name.
    """

    def __init__(self, signal: Signal, proxy: str = "") -> None:
        self._signal = signal
        self._proxy = proxy
        self._client: httpx.Client | None = None

    def read(self, hour: int) -> tuple[float, float | None]:
        """Return the number, and when it was written (seconds since 1970; None: now).

        `hour`: of the local day, for `{hour}` in a pointer.

        Raises:
            SignalError: there is no number; the message says why.
        """
        match self._signal.source:
            case Source.FILE:
                return self._in_file(hour)
            case Source.HTTP:
                answer = self._get(self._signal.address)
                return number_in(answer, self._signal.pointer, hour), None
            case Source.HOME_ASSISTANT:
                return self._state_of_entity(hour), None
            case _:
                return _of_sensor(self._signal.address.removeprefix(SENSOR_PREFIX)), None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _in_file(self, hour: int) -> tuple[float, float]:
        path = Path(self._signal.address).expanduser()
        try:
            data = read_regular(path, _MOST_BYTES)
            written = path.stat().st_mtime
        except OSError as error:
            why = error.strerror or str(error)
            raise SignalError(
                "{path} cannot be read ({why}); check its path.", path=str(path), why=why
            ) from error
        return number_in(data, self._signal.pointer, hour), written

    def _state_of_entity(self, hour: int) -> float:
        signal = self._signal
        base = signal.address.rstrip("/").removesuffix("/api")
        try:
            answer = self._get(f"{base}/api/states/{quote(signal.entity, safe='.')}")
        except _StatusError as error:
            if error.status == httpx.codes.NOT_FOUND:
                raise SignalError(
                    "Home Assistant has no entity {entity}; check its name.", entity=signal.entity
                ) from error
            raise
        return number_in(answer, signal.pointer or "/state", hour)

    def _get(self, url: str) -> bytes:
        if self._client is None:
            self._client = open_http(
                httpx.Client, httpx.URL(url), proxy=self._proxy, timeout=_TIMEOUT
            )
        headers = {"accept": "application/json, text/plain, */*"}
        if self._signal.token_file:
            headers["authorization"] = f"Bearer {read_token(self._signal.token_file)}"
        try:
            with self._client.stream("GET", url, headers=headers) as answer:
                if answer.status_code in {401, 403}:
                    raise SignalError(
                        "{host} wants a token (HTTP {status}); name a file with one that is valid.",
                        host=_host(url),
                        status=answer.status_code,
                    )
                if answer.status_code != httpx.codes.OK:
                    raise _StatusError(_host(url), answer.status_code)
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _MOST_BYTES:
                        raise SignalError("{host} answers with more than 512 KB.", host=_host(url))
                return body
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            kind = type(error).__name__
            raise SignalError(
                "{host} does not answer ({kind}).", host=_host(url), kind=kind
            ) from error


class _StatusError(SignalError):
    def __init__(self, host: str, status: int) -> None:
        super().__init__(
            say("{host} answers HTTP {status}; check the address.", host=host, status=status)
        )
        self.status = status


def number_in(data: bytes, pointer: str, hour: int) -> float:
    """Return the number in a text, or at a JSON pointer (RFC 6901) of it.

    Raises:
        SignalError: there is none.
    """
    text = data.decode("utf-8", errors="replace").strip()
    value: Any = text
    if pointer:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SignalError("The answer is no JSON; leave the pointer out.") from error
        for token in pointer.replace("{hour}", str(hour)).split("/")[1:]:
            value = _step(value, token.replace("~1", "/").replace("~0", "~"), pointer)
    found = number_of(value)
    if found is None:
        shown = repr(value)[:_SHOWN]
        raise SignalError(
            "{shown} is no number; check the address, or say where it is in JSON.", shown=shown
        )
    return found


def _step(value: Any, token: str, pointer: str) -> Any:
    try:
        if isinstance(value, list):
            return value[int(token)] if token.isdecimal() else value[len(value)]
        return value[token]
    except (KeyError, IndexError, TypeError) as error:
        raise SignalError("The answer has nothing at {pointer}.", pointer=pointer) from error


def read_token(name: str) -> str:
    """Return the secret in a file that only this user can read.

    Raises:
        SignalError: others can read it, or it cannot be read.
    """
    path = Path(name).expanduser()
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SignalError(
                "Others can read the token in {path}: run `chmod 600 {path}`.", path=name
            )
        text = read_regular(path, 8192).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SignalError(
            "The token in {path} cannot be read; check the file.", path=name
        ) from error
    if not text or not text.isprintable():
        raise SignalError("There is no token in {path}.", path=name)
    return text


def _host(url: str) -> str:
    return httpx.URL(url).netloc.decode("ascii", "replace")


def _of_sensor(name: str) -> float:
    import psutil

    if name == "cpu":
        from pleb_agent.sensors.temperature import LinuxTemperature

        degrees = LinuxTemperature().read().hottest
        if degrees is None:
            raise SignalError("This PC does not report the temperature of its processor.")
        return degrees
    read = getattr(psutil, "sensors_fans", None)
    speeds = [fan.current for fans in (read() if read else {}).values() for fan in fans]
    if not speeds:
        raise SignalError("This PC does not report the speed of its fans.")
    return float(max(speeds))
