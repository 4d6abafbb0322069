"""The operator's page: what `overview` and its like show, and buttons that ask before they act.

A browser comes in by a link that `pleb-coordinator open` makes: it works once, for two minutes,
and becomes a cookie. Every button is a form with a token of the session, answered by a question;
what it does is a command of `admin.table`, under the same rules as the command line's.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pleb_coordinator.admin.admins import ListAdmins
from pleb_coordinator.admin.door import Session, enter, find_link, find_session
from pleb_coordinator.admin.hosts import ListHosts, ShowHost
from pleb_coordinator.admin.invites import ListInvites
from pleb_coordinator.admin.logs import ReadAudit
from pleb_coordinator.admin.mirrors import last_checks
from pleb_coordinator.admin.overview import ReadOverview
from pleb_coordinator.admin.projects import ShowProject
from pleb_coordinator.admin.table import TABLE
from pleb_coordinator.admin.units import ListUnits
from pleb_coordinator.api.requests import read_body
from pleb_coordinator.api.routes import route
from pleb_coordinator.core.access import Reader, ReaderKind, write_reader
from pleb_coordinator.core.admins import AdminRole
from pleb_coordinator.web_app.admin_api import check_way, parse_command
from pleb_coordinator.web_app.operator_buttons import BUTTONS, allowed
from pleb_coordinator.web_app.pages import HEADERS, render
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import Route

    from pleb_coordinator.admin.hosts import HostShown
    from pleb_coordinator.api.context import Api
    from pleb_coordinator.web_app.admin_api import Admins

    Answer = Callable[[Request, Session], Awaitable[Response]]
    Form = dict[str, str]

__all__ = ["operator_routes"]

_COOKIE: Final = "pleb_operator"
_FORM_BYTES: Final = 16 * 1024
_SHOWN: Final = 100
"""Hosts, and units, on a project's page."""
_HEADERS: Final = HEADERS | {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    ),
    "Cache-Control": "no-store",
}


def operator_routes(admins: Admins) -> list[Route]:
    """Return the routes of the operator's page."""
    pages = _Pages(admins)
    api = admins.api

    async def operator_enter(_: Api, request: Request) -> Response:
        return await pages.use_link(request)

    async def operator_ask_link(_: Api, request: Request) -> Response:
        check_way(api, request)
        return pages.page("operator_login.html", link=request.query_params.get("link", "")[:200])

    def of_session(name: str, answer: Answer) -> Callable[[Api, Request], Awaitable[Response]]:
        async def handler(_: Api, request: Request) -> Response:
            return await pages.answer(request, answer)

        handler.__name__ = name  # the counters' name of the route
        return handler

    return [
        route(api, "GET", "/operator/login", operator_ask_link),
        route(api, "POST", "/operator/login", operator_enter),
        route(api, "GET", "/operator", of_session("operator", pages.overview)),
        route(
            api,
            "GET",
            "/operator/projects/{project}",
            of_session("operator_project", pages.project),
        ),
        route(api, "POST", "/operator/ask", of_session("operator_ask", pages.question)),
        route(api, "POST", "/operator/do", of_session("operator_do", pages.do)),
        route(api, "POST", "/operator/logout", of_session("operator_logout", pages.log_out)),
    ]


class _Pages:
    """What the routes answer."""

    def __init__(self, admins: Admins) -> None:
        self._admins, self._api = admins, admins.api
        self._path = f"{self._api.links.base_path}/operator"

    def page(self, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
        """Return a page of nobody's or somebody's session."""
        values = {
            "session": None,
            "form_token": "",
            "may": frozenset(),
            "buttons": BUTTONS,
        } | values
        html = render(self._api, template, now=self._api.deps.clock(), **values)
        return HTMLResponse(html, status_code, headers=_HEADERS)

    async def answer(self, request: Request, answer: Answer) -> Response:
        """Answer a request of a session; without one, say how to get one.

        A command that is refused is a page, too.
        """
        check_way(self._api, request)
        with self._api.store.read() as tx:
            session = find_session(tx, self._api.deps, request.cookies.get(_COOKIE, ""))
        if session is None:
            return self.page("operator_login.html", status_code=401, link="")
        try:
            return await answer(request, session)
        except Refusal as refusal:
            return self._of(
                session,
                "operator_done.html",
                status_code=refusal.http_status,
                title="Not done",
                said=refusal.message,
                values=[],
            )

    def _of(self, session: Session, template: str, **values: Any) -> HTMLResponse:
        may, token = allowed(session.actor), session.form_token
        return self.page(template, session=session, form_token=token, may=may, **values)

    async def use_link(self, request: Request) -> Response:
        """Trade a link for the cookie of a session."""
        check_way(self._api, request)
        form = await self._form(request)
        link = form.get("link", "")
        try:
            with self._api.store.read() as tx:
                find_link(tx, self._api.deps, link)  # nothing is written for strangers
            cookie, expires_at = await self._api.commits.run(
                lambda tx: enter(tx, self._api.deps, link)
            )
        except Refusal as refusal:
            return self.page("operator_login.html", status_code=401, link="", fault=refusal.message)
        answer = RedirectResponse(self._path, 303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(
            _COOKIE,
            cookie,
            max_age=int(expires_at - self._api.deps.clock()),
            path=self._path,
            secure=self._api.links.url.startswith("https://"),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def overview(self, _: Request, session: Session) -> Response:
        """Show the coordinator at a glance."""
        actor = session.actor
        lists: dict[str, Any] = {"invites": [], "admins": [], "audit": []}
        if actor.role is AdminRole.OPERATOR:
            lists = {
                "invites": await self._admins.ask(ListInvites(), actor),
                "admins": await self._admins.ask(ListAdmins(), actor),
                "audit": (await self._admins.ask(ReadAudit(limit=20), actor))[::-1],
            }
        found = await self._admins.ask(ReadOverview(), actor)
        refusals = self._api.counters.refusals.most_common(12)
        roles = [role.value for role in Role]
        return self._of(session, "operator.html", o=found, refusals=refusals, roles=roles, **lists)

    async def project(self, request: Request, session: Session) -> Response:
        """Show a project's hosts and units, with what can be done to each."""
        name, wanted = request.path_params["project"], request.query_params.get("host", "")[:200]
        status = await self._admins.ask(ShowProject(project=name), session.actor)
        found: list[HostShown] = []
        if wanted:
            details = await self._admins.ask(ShowHost(project=name, host=wanted), session.actor)
            found.append(details)
        else:
            listed = await self._admins.ask(ListHosts(project=name, limit=_SHOWN), session.actor)
            found = listed.hosts
        units = await self._admins.ask(ListUnits(project=name, limit=_SHOWN), session.actor)
        return self._of(
            session,
            "operator_project.html",
            p=status,
            hosts=found,
            units=units,
            wanted=wanted,
            reader=self._reader(name, session) if status.access == "invited" else "",
            mirrors=last_checks(self._admins.home.mirrors_file),
        )

    def _reader(self, project: str, session: Session) -> str:
        """Return by what this browser reads a private project's page until its session ends."""
        reader = Reader(project, ReaderKind.OPERATOR, f"{int(session.expires_at):x}")
        return write_reader(self._api.deps.secret, reader)

    async def question(self, request: Request, session: Session) -> Response:
        """Say what a button would do, and ask whether to."""
        words, fields, back = await self._pressed(request, session)
        parse_command(words, fields, session.actor, texts=True)
        return self._of(
            session,
            "operator_ask.html",
            words=words,
            button=BUTTONS[words],
            final=TABLE[words].final,
            fields=fields,
            back=back,
        )

    async def do(self, request: Request, session: Session) -> Response:
        """Carry out what was confirmed, and show what came of it."""
        words, fields, back = await self._pressed(request, session)
        command = parse_command(words, fields, session.actor, texts=True)
        value = msgspec.to_builtins(await self._admins.ask(command, session.actor))
        return self._of(
            session,
            "operator_done.html",
            title="Done",
            said=f"{BUTTONS[words].label}: done.",
            values=list(_shown(value)),
            back=back,
        )

    async def log_out(self, request: Request, session: Session) -> Response:
        """End the session."""
        await self._checked_form(request, session)
        secret = request.cookies.get(_COOKIE, "")
        await self._api.commits.run(lambda tx: tx.admins.end_session(digest_of(secret.encode())))
        answer = self.page("operator_login.html", link="")
        answer.delete_cookie(_COOKIE, path=self._path)
        return answer

    async def _pressed(self, request: Request, session: Session) -> tuple[str, Form, str]:
        """Return the command's words and its fields, and the project whose page to go back to."""
        form = await self._checked_form(request, session)
        words, back = form.pop("words", ""), form.pop("back", "")
        if words not in BUTTONS:
            message = "There is no such button: reload the page."
            raise Refusal(RefusalCode.MALFORMED, message)
        fields = {name: value for name, value in form.items() if value}
        return words, fields, quote(back, safe="")

    async def _checked_form(self, request: Request, session: Session) -> Form:
        """Return the fields of a form that a page of this session has made.

        Raises:
            Refusal: `not_permitted`: another site may have made it.
        """
        form = await self._form(request)
        if not hmac.compare_digest(
            form.pop("form_token", "").encode(), session.form_token.encode()
        ):
            message = "The form is not of this session: reload the page, and try again."
            raise Refusal(RefusalCode.NOT_PERMITTED, message)
        return form

    async def _form(self, request: Request) -> Form:
        """Return the fields of a form. Raises `Refusal`: it is too large, or of another site."""
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            message = "The form is of another site: use the operator's page."
            raise Refusal(RefusalCode.NOT_PERMITTED, message)
        body = await read_body(request, _FORM_BYTES, self._api.counters)
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=40))
        except ValueError as error:
            raise Refusal(RefusalCode.MALFORMED, "That is no form of these pages.") from error


def _shown(value: Any) -> list[tuple[str, str]]:
    """Return a command's value as names and texts."""
    if isinstance(value, dict):
        return [(name.replace("_", " "), _text(one)) for name, one in value.items()]
    return [("", _text(value))]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
