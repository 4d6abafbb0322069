"""Hosts that share blobs on the internet: where they answer, as far as this process has seen.

A host says at which port it answers, never at which address: its address is the one that its signed
request came from. So nobody can have others, or the coordinator, ask an address of their choice.
Before a host is named to others, the coordinator itself asks it, as a member would: only an agent
that has the key of the project's members and is the peer that it says answers that rightly.

Everything is bounded and in memory, so that no address is stored: each process of the coordinator
learns of a host with its next request there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.peers import Candidate, Places, common_bits, is_one_site
from pleb_coordinator.core.voices import network_of
from pleb_shared.errors import Refusal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.lan import HaveReply, HaveRequest, SignedHeaders, request_mac
from pleb_shared.protocol.peers import Peer, public_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pleb_shared.protocol.peers import Address, Sharing

__all__ = ["Named", "Peers", "send_to_host"]

_MOST: Final = 4096
"""Hosts that share, of all projects: the longest unseen one is forgotten for a new one."""
_MOST_OF_A_NETWORK: Final = 32
"""Of those, so that no network fills the table."""
_KEPT_SECONDS: Final = 2 * 3600.0
"""After a host's last request."""
_AGAIN_SECONDS: Final = 900.0
"""After which a host is asked again, with its next request."""
_LEAST_SECONDS: Final = 60.0
"""From one question to a host to the next, whatever it says meanwhile."""
_AT_ONCE: Final = 8
_MOST_WAITING: Final = 256
"""Questions; further ones are left out."""
_ANSWER_SECONDS: Final = 3.0
_ANSWER_BYTES: Final = 4096
_NO_PEER: Final = "0" * 16
_LOG: Final = logging.getLogger("pleb.coordinator")


@dataclass(frozen=True)
class Named:
    """What a host that shares may be told."""

    candidates: Sequence[Candidate] = ()
    reached: str | None = None
    """The address at which it answered; empty: it did not; None: it was not asked yet."""


@dataclass
class _Host:
    peer: Peer
    address: Address
    network: str
    seen_at: float
    asked_at: float = float("-inf")
    reached: bool | None = None


@dataclass
class _Project:
    hosts: dict[int, _Host] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    """Of those that have answered."""


class Peers:
    """The table.

    Args:
        now: seconds since 1970.
        send: sends bytes to an address and a port and returns the first bytes of the answer.
    """

    def __init__(
        self,
        now: Callable[[], float],
        send: Callable[[str, int, bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        self._now = now
        self._send = send or send_to_host
        self._projects: dict[str, _Project] = {}
        self._order: dict[tuple[str, int], None] = {}
        """All hosts, the longest unseen first."""
        self._networks: Counter[str] = Counter()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._questions: dict[tuple[str, int], asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """Return how many hosts are in the table."""
        return len(self._order)

    def near(self, project: str, host: int, address: str, sharing: Sharing | None) -> Named:
        """Return what a host may be told: nothing, unless it shares."""
        where, known = public_address(address), self._projects.get(project)
        if sharing is None or where is None or known is None:
            return Named()
        oldest = self._now() - _KEPT_SECONDS
        others = known.places.around(where, secrets.randbelow)
        rows = [(other, known.hosts[other]) for other in others if other != host]
        near = [
            Candidate(other, row.peer, common_bits(where, row.address))
            for other, row in rows
            if row.seen_at >= oldest and not is_one_site(where, row.address)
        ]
        found = known.hosts.get(host)
        if found is None or found.reached is None:
            return Named(near)
        return Named(near, found.peer.address if found.reached else "")

    def seen(
        self, project: str, host: int, address: str, sharing: Sharing | None, keys: Sequence[str]
    ) -> None:
        """Note how a host shares, now that its signed request was answered.

        `keys`: those of the project's members, in hexadecimal, the newest first.
        """
        where = public_address(address)
        if sharing is None or sharing.port is None or where is None:
            self.forget(project, host)
            return
        peer = Peer(peer=sharing.peer, address=str(where), port=sharing.port)
        found = self._note(project, host, where, peer)
        if found is not None:
            self._ask_soon(project, host, found, keys)

    def forget(self, project: str, host: int) -> None:
        """Name a host to nobody any more."""
        known = self._projects.get(project)
        if known is None or host not in known.hosts:
            return
        del self._order[project, host]
        gone = known.hosts.pop(host)
        known.places.remove(host, gone.address)
        self._networks -= Counter([gone.network])
        if not known.hosts:
            del self._projects[project]

    def _note(self, project: str, host: int, where: Address, peer: Peer) -> _Host | None:
        """Return the host's row; None: there are too many of its network."""
        now, network = self._now(), network_of(str(where))
        before = self._projects.get(project, _Project()).hosts.get(host)
        if before is not None and before.peer == peer:
            before.seen_at = now
            self._order[project, host] = self._order.pop((project, host))
            return before
        self.forget(project, host)
        self._forget_old(now)
        if self._networks[network] >= _MOST_OF_A_NETWORK:
            return None
        found = _Host(peer, where, network, now)
        if before is not None:  # what it says anew does not have it asked more often
            found.asked_at = before.asked_at
        self._projects.setdefault(project, _Project()).hosts[host] = found
        self._networks[network] += 1
        self._order[project, host] = None
        return found

    def _forget_old(self, now: float) -> None:
        while self._order:
            project, host = next(iter(self._order))
            seen_at = self._projects[project].hosts[host].seen_at
            if len(self._order) < _MOST and now - seen_at < _KEPT_SECONDS:
                return
            self.forget(project, host)

    # -- is it reached? ---------------------------------------------------------------------

    def _ask_soon(self, project: str, host: int, found: _Host, keys: Sequence[str]) -> None:
        """Ask a host in the background whether it answers, if that is not known."""
        since, busy = self._now() - found.asked_at, (project, host) in self._questions
        due = since >= (_LEAST_SECONDS if found.reached is None else _AGAIN_SECONDS)
        if due and not busy and len(self._questions) < _MOST_WAITING:
            found.asked_at = self._now()
            task = asyncio.create_task(self._question(project, host, found, keys))
            self._questions[project, host] = task
            task.add_done_callback(lambda _: self._questions.pop((project, host), None))

    async def _question(self, project: str, host: int, found: _Host, keys: Sequence[str]) -> None:
        async with self._at_once:
            reached = await self._answers(found.peer, keys)
        known = self._projects.get(project)
        if known is None or known.hosts.get(host) is not found:
            return  # it shares no more, or elsewhere
        known.places.remove(host, found.address)
        found.reached = reached
        if reached:
            known.places.add(host, found.address)

    async def _answers(self, peer: Peer, keys: Sequence[str]) -> bool:
        """Whether the host at that place is the peer that it says, and a member."""
        body = strict_json.encode(HaveRequest(digests=[]))
        for key in keys:  # around midnight it may not have the newest one yet
            signed = SignedHeaders(peer.peer, _NO_PEER, 0, int(self._now()))
            mac = request_mac(bytes.fromhex(key), signed, "POST", "/have", "", body)
            host = f"[{peer.address}]" if ":" in peer.address else peer.address
            head = (
                f"POST /have HTTP/1.1\r\nhost: {host}:{peer.port}\r\nconnection: close\r\n"
                f"content-length: {len(body)}\r\npleb-peer: {_NO_PEER}\r\npleb-port: 0\r\n"
                f"pleb-time: {signed.time}\r\npleb-mac: {mac}\r\n\r\n"
            )
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._send(peer.address, peer.port, head.encode() + body)
            except (OSError, TimeoutError) as error:
                _LOG.info("peer", extra={"problem": str(error) or "it does not answer"})
                return False
            if _is_right(answer):
                return True
        return False


async def send_to_host(address: str, port: int, request: bytes) -> bytes:
    """Send a request; return what comes until the connection ends, at most `_ANSWER_BYTES`."""
    reader, writer = await asyncio.open_connection(address, port, limit=_ANSWER_BYTES)
    try:
        writer.write(request)
        answer = b""
        while len(answer) < _ANSWER_BYTES and (came := await reader.read(_ANSWER_BYTES)):
            answer += came
        return answer[:_ANSWER_BYTES]
    finally:
        writer.transport.abort()


def _is_right(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return False
    try:
        strict_json.decode(body, HaveReply)
    except Refusal:
        return False
    return True
