"""`POST /admin/login` and `POST /admin/command`: admins' commands, signed by their keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response

from pleb_coordinator.admin.command import Actor, Command, Desk
from pleb_coordinator.admin.door import check_code, find_admin, take_login, take_request
from pleb_coordinator.admin.errand import refusal_of_error, send
from pleb_coordinator.admin.table import TABLE, carry_out, command_type, permit
from pleb_coordinator.api.requests import (
    address_of,
    check_statement,
    choose_protocol,
    read_body,
)
from pleb_coordinator.api.routes import route
from pleb_shared.errors import PlebError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.admin import AdminLogin, AdminRequest
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import read_envelope
from pleb_system.transport import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.routing import Route

    from pleb_coordinator.api.context import Api
    from pleb_coordinator.home.layout import Home

__all__ = ["Admins", "admin_routes", "check_way", "parse_command"]

T = TypeVar("T")


@dataclass(frozen=True)
class Admins:
    """Carries out what admins ask for over HTTPS."""

    api: Api
    home: Home
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while another process does a long command; one at a time."""

    async def ask(self, command: Command[T], actor: Actor) -> T:
        """Return the command's value; other requests are served meanwhile.

        Raises:
            Refusal: `not_permitted`; it cannot be done; `rate_limited`: another long command is
                running.
        """
        if not TABLE[command.words].lasting:
            return await asyncio.to_thread(self._carry_out, command, actor)
        if self.busy.locked():
            message = "Another command that takes long is running: try again when it is done."
            raise Refusal(RefusalCode.RATE_LIMITED, message, retry_after_seconds=30)
        async with self.busy:
            said = await send(self.home, command, actor)
        found: T = msgspec.json.decode(said, type=command.answer_type())
        return found

    def _carry_out(self, command: Command[T], actor: Actor) -> T:
        desk = Desk(self.home, self.api.deps.clock, actor, served_at=self.api.links)
        try:
            return carry_out(desk, command)
        except PlebError as error:
            raise refusal_of_error(error) from error


def admin_routes(admins: Admins) -> list[Route]:
    """Return the routes of admins' programs."""

    async def admin_login(api: Api, request: Request) -> Response:
        """Take a code, and the key that signs for its admin from now on."""
        check_way(api, request)
        body = await read_body(request, LIMITS.message_bytes, api.counters)
        signed = read_envelope(body, PayloadType.ADMIN_LOGIN)
        login = strict_json.decode(signed.payload, AdminLogin)
        choose_protocol(login)
        check_statement(login, api.deps.clock())
        with api.store.read() as tx:
            check_code(tx, login)
        signed.verify(login.key)
        welcome = await api.commits.run(lambda tx: take_login(tx, login, api.deps.clock()))
        return Response(strict_json.encode(welcome), media_type="application/json")

    async def admin_command(api: Api, request: Request) -> Response:
        """Carry out a signed command."""
        check_way(api, request)
        body = await read_body(request, LIMITS.message_bytes, api.counters)
        signed = read_envelope(body, PayloadType.ADMIN)
        asked = strict_json.decode(signed.payload, AdminRequest)
        choose_protocol(asked)
        check_statement(asked, api.deps.clock())
        with api.store.read() as tx:
            admin = find_admin(tx, asked)
        signed.verify(admin.key)
        actor = await api.commits.run(lambda tx: take_request(tx, admin, asked, api.deps.clock()))
        command = parse_command(asked.command, asked.arguments, actor)
        value = msgspec.json.encode(await admins.ask(command, actor))
        headers = {"Cache-Control": "no-store"}
        return Response(value, headers=headers, media_type="application/json")

    return [
        route(admins.api, "POST", "/admin/login", admin_login),
        route(admins.api, "POST", "/admin/command", admin_command),
    ]


def parse_command(
    words: str, arguments: Mapping[str, Any], actor: Actor, *, texts: bool = False
) -> Command[Any]:
    """Return the command that the actor asks for; with `texts` numbers may come as texts.

    Raises:
        Refusal: `malformed`: there is no such command, or its arguments are others;
            `not_permitted`: it is not for the actor's role.
    """
    kind = command_type(words)
    permit(words, actor)
    try:
        found: Command[Any] = msgspec.convert(arguments, kind, strict=not texts)
    except msgspec.ValidationError as error:
        message = f"The arguments of `{words}` are wrong: {str(error)[:200]}."
        raise Refusal(RefusalCode.MALFORMED, message) from error
    return found


def check_way(api: Api, request: Request) -> None:
    """Return if nobody on the way can read what is asked and answered.

    Raises:
        Refusal: `not_permitted`: the coordinator has no HTTPS, and this is another machine.
    """
    if not api.links.url.startswith("https://") and not is_loopback(address_of(request)):
        message = (
            "Admins need HTTPS, which this coordinator does not have: start it with "
            "`serve --tls self-signed`, or put a proxy before it and set its address (`url`)."
        )
        raise Refusal(RefusalCode.NOT_PERMITTED, message)
