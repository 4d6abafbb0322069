"""The household as the faces see it: what each member does, and what is done on all of them."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_agent.client.http import HttpClient, Timeouts
from pleb_agent.control import requests
from pleb_agent.control.journal_reader import message_of
from pleb_agent.control.views import HouseholdView, MemberView, MessageView
from pleb_agent.core.presets import PRESETS
from pleb_agent.core.sentence import say
from pleb_agent.lan.household import (
    MOST_BYTES,
    HouseholdAct,
    HouseholdRequest,
    MemberState,
    code_key,
    read_code,
)
from pleb_shared.errors import InputError, Refusal
from pleb_shared.protocol.shown import shown_line
from pleb_system.network_errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pleb_agent.client.network import Network
    from pleb_agent.control.controller import Controller
    from pleb_agent.control.views import StatusView
    from pleb_agent.lan.household import Household
    from pleb_agent.lan.neighbours import Neighbour
    from pleb_agent.lan.sharing import LanSharing

__all__ = ["HouseholdControl", "check_preset"]

_TIMEOUTS: Final = Timeouts(connect=1.0, silence=2.0)
_FIND_SECONDS: Final = 10.0
"""How long the PC that shows a code is looked for."""
_LOOK_SECONDS: Final = 0.1
_LONGEST_NAME: Final = 60


@dataclass(frozen=True)
class HouseholdControl:
    """One for each agentd."""

    household: Household
    lan: LanSharing
    network: Network
    controller: Controller
    name: Callable[[], str] = socket.gethostname

    # -- shown ------------------------------------------------------------------------------

    async def view(self, act: HouseholdAct = HouseholdAct.SHOW, preset: str = "") -> HouseholdView:
        """Return all members, this PC first; with another act, after each has carried it out.

        Raises:
            InputError: there is no such preset.
        """
        if preset:
            check_preset(preset)
        key = self.household.member_key
        if key is None:
            return HouseholdView(on=False, members=[])
        own = self._carry_out(act, preset)
        others = [self._ask(one, act, preset) for one in self.lan.with_key(key)]
        found = await asyncio.gather(*others)
        members = [_member(own, own.name, here=True), *sorted(found, key=lambda one: one.name)]
        known = [one for one in members if one.reached]
        code = self.household.shown_code()
        return HouseholdView(
            on=True,
            members=members,
            code="" if code is None else code.text,
            code_ends_at=None if code is None else code.ends_at,
            accepted=sum(one.accepted for one in known),
            credit_flops=sum(one.credit_flops for one in known),
            energy_kwh=sum(one.energy_kwh for one in known),
            from_neighbours=sum(one.from_neighbours for one in known),
        )

    def answer(self, request: HouseholdRequest) -> MemberState:
        """Do what another member asks, and say what this PC does then."""
        return self._carry_out(request.act, request.preset)

    def _carry_out(self, act: HouseholdAct, preset: str) -> MemberState:
        match act:
            case HouseholdAct.PAUSE:
                status = self.controller.pause(requests.PauseRequest())
            case HouseholdAct.RESUME:
                status = self.controller.resume(requests.ResumeRequest())
            case HouseholdAct.PRESET if preset in PRESETS:
                self.controller.apply_preset(requests.PresetRequest(name=preset))
                status = self.controller.reader.status()
            case _:
                status = self.controller.reader.status()
        return self._state(status)

    def _state(self, status: StatusView) -> MemberState:
        total = self.controller.reader.contribution(1).total
        unit = status.unit
        steps = 0 if unit is None else unit.steps_total
        return MemberState(
            name=shown_line(self.name())[:_LONGEST_NAME],
            activity=status.activity,
            text=status.message.text[:2000],
            template=status.message.template[:2000],
            values=_plain(status.message),
            paused=status.paused,
            projects=[one.title[:100] for one in status.projects[:100]],
            progress=unit.steps_done / steps if unit is not None and steps else None,
            accepted=max(0.0, total.accepted),
            credit_flops=max(0.0, total.credit_flops),
            energy_kwh=max(0.0, total.energy_kwh),
            from_neighbours=float(self.lan.received),
            to_neighbours=float(self.lan.sent_bytes),
        )

    async def _ask(self, one: Neighbour, act: HouseholdAct, preset: str) -> MemberView:
        request = self.household.request(one.peer.hex(), act, preset)
        try:
            answer = await self._post(one, "/household", request)
            state = self.household.read_answer(answer, request)
        except (NetworkError, Refusal, ValueError):
            said = message_of(say("It does not answer now."))
            return MemberView(name=one.address, here=False, reached=False, message=said)
        return _member(state, state.name or one.address, here=False)

    async def _post(self, one: Neighbour, path: str, body: bytes) -> bytes:
        client = HttpClient(one.url, timeouts=_TIMEOUTS, network=self.network.direct())
        try:
            return await client.message("POST", path, MOST_BYTES, body)
        finally:
            await client.close()

    # -- joining ----------------------------------------------------------------------------

    async def show_code(self) -> HouseholdView:
        """Show a code by which one more PC joins; the first begins the household."""
        letters = self.household.new_letters()
        key = await asyncio.to_thread(code_key, letters)
        self.household.show_code(letters, key)
        return await self.view()

    async def join(self, code: str) -> HouseholdView:
        """Join the household of the PC that shows the code.

        Raises:
            InputError: it is no code, no PC near by shows it, or this PC is in a household.
        """
        if self.household.key is not None:
            raise InputError(
                "This PC is in a household already: leave it first (`pleb-agent household leave`)."
            )
        key = await asyncio.to_thread(code_key, read_code(code))
        self.household.joining = key
        self.lan.look_again()
        try:
            await self._join(key)
        finally:
            self.household.joining = None
        self.lan.look_again()
        self.lan.ask_around()
        return await self.view()

    async def _join(self, key: bytes) -> None:
        loop = asyncio.get_running_loop()
        until, asked_at = loop.time() + _FIND_SECONDS, loop.time()
        (beacon,) = self.household.beacon_keys
        while not (near := self.lan.with_key(beacon)):
            if loop.time() >= until:
                raise InputError(
                    "No PC near by shows that code. Is it the one shown now, in the same network, "
                    "and may agents be reached there (firewall)?"
                )
            if loop.time() - asked_at > 1.0:
                asked_at = loop.time()
                self.lan.ask_around()
            await asyncio.sleep(_LOOK_SECONDS)
        request = self.household.ask_to_join(near[0].peer.hex(), key)
        try:
            answer = await self._post(near[0], "/household/join", request)
            self.household.accept(answer, request, key)
        except (NetworkError, Refusal, ValueError) as error:
            raise InputError(
                "The other PC did not accept the code: let it show a new one."
            ) from error

    async def leave(self) -> HouseholdView:
        """Leave the household: this PC neither shows itself to the others nor sees them."""
        self.household.leave()
        return await self.view()


def check_preset(name: str) -> None:
    """Raise `InputError` unless there is a preset of that name."""
    if name not in PRESETS:
        raise InputError(f"There is no preset {name[:60]!r}; there are {', '.join(PRESETS)}.")


def _member(state: MemberState, name: str, *, here: bool) -> MemberView:
    return MemberView(
        name=shown_line(name)[:_LONGEST_NAME],
        here=here,
        reached=True,
        activity=state.activity,
        message=MessageView(text=state.text, template=state.template, values={**state.values}),
        paused=state.paused,
        projects=state.projects,
        progress=state.progress,
        accepted=state.accepted,
        credit_flops=state.credit_flops,
        energy_kwh=state.energy_kwh,
        from_neighbours=state.from_neighbours,
        to_neighbours=state.to_neighbours,
    )


def _plain(message: MessageView) -> dict[str, int | float | str]:
    """Return a sentence's values as JSON has them; a sentence inside it is said in English."""
    values = msgspec.to_builtins(message.values)
    return {
        name: value if isinstance(value, int | float | str) else str(message.values[name])
        for name, value in values.items()
    }
