"""A coordinator elsewhere: logging in once, and sending it signed commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from pleb_coordinator.admin.access import now
from pleb_coordinator.admin.table import TABLE
from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.admin import AdminLogin, AdminRequest, AdminWelcome
from pleb_shared.protocol.limits import PROTOCOLS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_system.durable import write_durably
from pleb_system.network_errors import BadAnswerError
from pleb_system.transport import is_loopback, network_error, open_http, refusal_of

if TYPE_CHECKING:
    from pathlib import Path

    from pleb_coordinator.admin.command import Command
    from pleb_coordinator.home.layout import Home

__all__ = ["Login", "Place", "find_login", "log_in", "parse_login", "send"]

T = TypeVar("T")
_REQUEST_SECONDS: Final = 300
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_LONG_TIMEOUT: Final = httpx.Timeout(3600.0, connect=10.0)
"""For commands that take long."""
_CODE: Final = re.compile(r"[0-9a-f]{16,128}")
_PIN: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Place:
    """Where a coordinator is; `certificate` pins a self-signed one."""

    url: str
    certificate: str | None


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What this user has of being an admin of a coordinator; the key is secret."""

    url: str
    certificate: str | None
    name: str
    role: str
    key: str
    """The 32 secret bytes in hexadecimal."""


def parse_login(text: str) -> tuple[Place, str]:
    """Return the coordinator and the code of `https://HOST[/PATH]#CODE[+CERTIFICATE]`.

    Raises:
        InputError: it is something else, or no HTTPS.
    """
    url, _, secret = text.strip().partition("#")
    code, _, pin = secret.partition("+")
    if not _CODE.fullmatch(code) or (pin and not _PIN.fullmatch(pin)):
        raise InputError(
            "That is no address to log in with: copy it whole, as `pleb-coordinator admin new` "
            "prints it on the coordinator's machine (https://HOST#CODE)."
        )
    return Place(_checked(url), pin or None), code


def _checked(text: str) -> str:
    """Return an address without a slash at its end. Raises `InputError`."""
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError:  # half a bracket of an IPv6 address, or a port that is none
        parts = urlsplit("")
    host = parts.hostname or ""
    if not host or parts.scheme not in {"http", "https"} or "@" in parts.netloc:
        raise InputError(f"{text[:80]!r} is not a coordinator's address: give https://HOST.")
    if parts.scheme == "http" and not is_loopback(host):
        raise InputError(
            f"{text[:80]} has no HTTPS, so anybody on the way could read invites and answers: use "
            "the coordinator's https:// address."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def log_in(home: Home, text: str) -> Login:
    """Use a code; keep a new key for that coordinator, whatever was kept for it before.

    Raises:
        InputError: it is no address to log in with.
        Refusal: `unknown_admin`: the code is not valid (any more).
    """
    place, code = parse_login(text)
    key, at = SigningKey.generate(), int(now())
    login = AdminLogin(
        protocols=list(PROTOCOLS),
        code=code,
        key=key.public,
        issued_at=at,
        expires_at=at + _REQUEST_SECONDS,
    )
    envelope = sign_payload(strict_json.encode(login), PayloadType.ADMIN_LOGIN, key)
    welcome = strict_json.decode(_post(place, "/admin/login", envelope, _TIMEOUT), AdminWelcome)
    found = Login(place.url, place.certificate, welcome.name, welcome.role, key.to_bytes().hex())
    home.logins.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home.logins / f"{re.sub('[^A-Za-z0-9.-]', '_', place.url)}.json"
    write_durably(file, msgspec.json.encode(found), private=True)
    return found


def find_login(home: Home, address: str | None) -> Login | None:
    """Return the login for a coordinator's address; None without one if this machine has a home.

    Without an address and a home it is the only login that there is.

    Raises:
        InputError: there is none for the address, or a file of theirs cannot be read.
    """
    if address is None and home.exists:
        return None
    found = _logins(home)
    if address is None:
        return found[0] if len(found) == 1 else None
    url = _checked(address.partition("#")[0])
    for login in found:
        if login.url == url:
            return login
    raise InputError(
        f"You are not logged in to {url}: run `pleb-coordinator login {url}#CODE` with a code "
        "that `pleb-coordinator admin new` prints there."
    )


def _logins(home: Home) -> list[Login]:
    return [_read(file) for file in sorted(home.logins.glob("*.json"))]


def _read(file: Path) -> Login:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Login)
    except msgspec.DecodeError as error:
        raise InputError(f"{file} is damaged: remove it, and log in again.") from error


def send(login: Login, command: Command[T]) -> T:
    """Return what the coordinator answers to a command.

    Raises:
        InputError, Refusal: as the command does there.
        NetworkError: no answer came; the command may have been done.
    """
    try:
        answer = _send_once(login, command)
    except Refusal as refusal:
        if refusal.code is RefusalCode.WRONG_INPUT:
            raise InputError(refusal.message) from refusal
        if refusal.code is not RefusalCode.STALE_SEQUENCE:
            raise
        answer = _send_once(login, command)  # another of this admin's commands overtook it
    try:
        found: T = msgspec.json.decode(answer, type=command.answer_type())
    except msgspec.DecodeError as error:
        raise BadAnswerError(
            f"{login.url} answered something else than this program knows ({error}): is one of "
            "the two older?"
        ) from error
    return found


def _send_once(login: Login, command: Command[Any]) -> bytes:
    time = now()
    request = AdminRequest(
        protocols=list(PROTOCOLS),
        admin=login.name,
        sequence=int(time * 1e6),
        command=command.words,
        arguments=msgspec.to_builtins(command),
        issued_at=int(time),
        expires_at=int(time) + _REQUEST_SECONDS,
    )
    key = SigningKey.from_bytes(bytes.fromhex(login.key))
    envelope = sign_payload(strict_json.encode(request), PayloadType.ADMIN, key)
    lasting = TABLE[command.words].lasting
    place = Place(login.url, login.certificate)
    return _post(place, "/admin/command", envelope, _LONG_TIMEOUT if lasting else _TIMEOUT)


def _post(place: Place, path: str, envelope: bytes, timeout: httpx.Timeout) -> bytes:
    url = httpx.URL(place.url)
    with open_http(
        httpx.Client, url, certificate=place.certificate, base_url=place.url, timeout=timeout
    ) as client:
        try:
            answer = client.post(path, content=envelope)
        except httpx.RequestError as error:
            hint = "check the address and that the coordinator is running"
            if isinstance(error, httpx.ReadError | httpx.ReadTimeout):
                hint = "see `pleb-coordinator log --audit` whether the command was done"
            raise network_error(error, place.url, hint) from error
    if not answer.is_success:
        raise refusal_of(answer, answer.content)
    return answer.content
