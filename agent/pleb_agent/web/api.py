"""The control API: JSON on loopback, for the command line and the tray.

Each request carries the token of `HOME/agentd.json`; `guard` says what else is checked. `pause` and
`resume` also take the tokens of `control.hooks`, with bodies of their own.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from starlette.responses import StreamingResponse
from starlette.routing import Route

from pleb_agent.control import requests
from pleb_agent.control.views import PageAddress
from pleb_agent.web.guard import (
    bearer_of,
    is_bearer,
    is_from_here,
    json_response,
    read_body,
    refused,
)
from pleb_shared.errors import InputError, PlebError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from pleb_agent.control.controller import Controller
    from pleb_agent.control.household_control import HouseholdControl
    from pleb_agent.web.guard import BrowserLogins

    Act = Callable[[Request], Any]
    """May return an awaitable."""

__all__ = ["api_routes"]

B = TypeVar("B", bound=requests.RequestBody)
_DONE: Final = {"done": True}
"""All that a program with a hook's token learns."""


def api_routes(
    controller: Controller, token: str, logins: BrowserLogins, household: HouseholdControl | None
) -> list[Route]:
    """Return `/api/...`."""
    reader = controller.reader
    reads: dict[str, Callable[[Mapping[str, str]], Any]] = {
        "status": lambda _: reader.status(),
        "preferences": lambda _: reader.preferences(),
        "autostart": lambda _: controller.autostart.view(),
        "contribution": lambda query: reader.contribution(_number(query, "days", 30)),
        "history": lambda query: reader.history(
            before=_number(query, "before", 0) or None, count=_number(query, "count", 50)
        ),
        "log": lambda query: reader.log(_number(query, "lines", 100)),
        "facts": lambda query: reader.facts(query.get("project", "")),
        "curve": lambda query: reader.curve(query.get("project", "")),
        "receipts": lambda query: reader.receipts(
            _number(query, "days", 30), each=query.get("each") == "1"
        ),
        "habits": lambda _: reader.habits(),
        "rules": lambda _: reader.signal_rules(),
        "units": lambda query: reader.units(
            query.get("part", "in_hand"), _number(query, "before", 0) or None
        ),
    }
    acts: dict[str, tuple[type[requests.RequestBody], Callable[[Any], Any]]] = {
        "preview": (requests.PreviewRequest, lambda body: reader.preview(body.link)),
        "attach": (requests.AttachRequest, controller.attach),
        "detach": (requests.ProjectRequest, controller.detach),
        "link": (requests.ProjectRequest, controller.account_link),
        "reader": (requests.ProjectRequest, controller.reader_of),
        "boost": (requests.BoostRequest, controller.boost),
        "rules": (requests.RulesRequest, controller.set_rules),
        "signal": (requests.ReadSignalRequest, controller.read_signal),
        "hook": (requests.HookRequest, controller.create_hook),
        "hook/revoke": (requests.HookRequest, controller.revoke_hook),
        "stop": (requests.StopRequest, controller.stop),
        "finish": (requests.FinishRequest, controller.finish),
        "new-work": (requests.NewWorkRequest, controller.set_new_work),
        "own-data": (requests.OwnDataRequest, controller.choose_data),
        "forget-habits": (requests.ForgetHabitsRequest, controller.forget_habits),
        "verify": (requests.VerifyRequest, controller.verify),
        "unit": (requests.UnitRequest, controller.act_on_unit),
        "preferences": (requests.PreferencesRequest, controller.set_preferences),
        "preset": (requests.PresetRequest, controller.apply_preset),
        "autostart": (requests.AutostartRequest, controller.set_autostart),
        "runtime": (requests.RuntimeRequest, controller.fetch_runtime),
        "update": (requests.RequestBody, lambda _: controller.install_update()),
    }

    if household is not None:
        acts |= _household_acts(household)
        reads["household"] = lambda _: household.view()

    def admits(request: Request) -> bool:
        return is_bearer(request, token)

    async def open_page(request: Request) -> PageAddress:
        body = await _read(request, requests.PageRequest)
        link = f"&link={quote(body.link, safe='')}" if body.link else ""
        port = request.scope["server"][1]
        return PageAddress(url=f"http://127.0.0.1:{port}/open?code={logins.new_code()}{link}")

    async def events(request: Request) -> Response:
        if not is_bearer(request, token):
            return refused()
        return StreamingResponse(
            (
                b"data: " + msgspec.json.encode(status) + b"\n\n"
                async for status in reader.changes()
            ),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    def on_query(read: Callable[[Mapping[str, str]], Any]) -> Callable[[Request], Any]:
        return lambda request: read(request.query_params)

    def on_body(
        kind: type[requests.RequestBody], do: Callable[[Any], Any]
    ) -> Callable[[Request], Any]:
        async def act(request: Request) -> Any:
            return do(await _read(request, kind))

        return act

    return [
        *(_route(name, "GET", on_query(read), admits) for name, read in reads.items()),
        *(_route(name, "POST", on_body(kind, do), admits) for name, (kind, do) in acts.items()),
        _route("page", "POST", open_page, admits),
        *_hook_routes(controller, token),
        Route("/api/events", events, methods=["GET"]),
    ]


def _household_acts(
    household: HouseholdControl,
) -> dict[str, tuple[type[requests.RequestBody], Callable[[Any], Any]]]:
    return {
        "household": (
            requests.HouseholdActRequest,
            lambda body: household.view(body.act, body.preset),
        ),
        "household/code": (requests.RequestBody, lambda _: household.show_code()),
        "household/join": (
            requests.HouseholdJoinRequest,
            lambda body: household.join(body.code),
        ),
        "household/leave": (requests.RequestBody, lambda _: household.leave()),
    }


def _hook_routes(controller: Controller, token: str) -> list[Route]:
    """Return `pause` and `resume`, which other programs of the user's may ask for too.

    With a token of their own they cannot end the user's pause, and learn nothing.
    """

    def is_ours(request: Request) -> bool:
        return is_bearer(request, token)

    def may_hook(request: Request) -> bool:
        return is_ours(request) or (
            is_from_here(request) and controller.reader.hooks.find(bearer_of(request)) is not None
        )

    async def pause(request: Request) -> Any:
        if is_ours(request):
            return controller.pause(await _read(request, requests.PauseRequest))
        controller.pause_by_hook(await _read(request, requests.HookPauseRequest))
        return _DONE

    async def resume(request: Request) -> Any:
        if is_ours(request):
            return controller.resume(await _read(request, requests.ResumeRequest))
        controller.resume_by_hook()
        return _DONE

    return [
        _route("pause", "POST", pause, may_hook),
        _route("resume", "POST", resume, may_hook),
    ]


async def _read(request: Request, kind: type[B]) -> B:
    """Return a request's body.

    Raises:
        InputError: it cannot be read as this kind.
    """
    try:
        return msgspec.json.decode(await read_body(request) or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The request is not understood: {error}.") from error


def _route(name: str, method: str, act: Act, admits: Callable[[Request], bool]) -> Route:
    """Return a route that admits some requests, and answers errors as JSON."""

    async def endpoint(request: Request) -> Response:
        if not admits(request):
            return refused()
        try:
            answer = act(request)
            while inspect.isawaitable(answer):
                answer = await answer
            return json_response(answer)
        except PlebError as error:
            return json_response({"message": str(error), "exit_code": error.exit_code}, 400)

    return Route(f"/api/{name}", endpoint, methods=[method])


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 15:
        raise InputError(f"{name} must be a whole number.")
    return int(text)
