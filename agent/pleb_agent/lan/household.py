"""A household: the agents of one user on a local network, which any of their pages shows together.

All of them have one key, which never leaves the network and is in no project's hands. Whoever has
it can see what each agent does, pause and resume it, and choose a preset; nothing else.

    page ──> its own agent ──sealed request──> the others: POST /household
                                  <──sealed answer──

An agent joins by a code that another one shows: twelve characters, good for ten minutes, one use
and five wrong tries. Both make a key of it (scrypt), find each other by beacons with MACs of it,
and the household's key travels sealed by it. Twelve characters are 60 bits, so nobody who listens
can find the code afterwards; that is why it needs no password-authenticated exchange.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.errors import InputError, Refusal, RefusalCode
from pleb_shared.protocol.limits import LIMITS
from pleb_system.durable import remove_private, write_durably
from pleb_system.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "CODE_SECONDS",
    "MOST_BYTES",
    "Code",
    "Household",
    "HouseholdAct",
    "HouseholdRequest",
    "MemberState",
    "code_key",
    "open_sealed",
    "read_code",
    "seal",
]

MOST_BYTES: Final = 64 * 1024
"""Of a sealed message."""
CODE_SECONDS: Final = 600.0
_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""32 of them: without 0, 1, I and O, which look like others."""
_CODE_LETTERS: Final = 12
_GROUP: Final = 4
_WRONG_TRIES: Final = 5
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_MOST_SEEN: Final = 1000
"""Requests that are remembered, so that none counts twice."""
_SCRYPT: Final[dict[str, int]] = {"n": 2**12, "r": 8, "p": 1, "dklen": _KEY_BYTES}
"""4 MiB for some milliseconds: agentd may take 60 in all."""

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e30)]


class HouseholdAct(StrEnum):
    """What a member may ask of another."""

    SHOW = "show"
    PAUSE = "pause"
    RESUME = "resume"
    PRESET = "preset"


class HouseholdRequest(msgspec.Struct, frozen=True):
    """A request of one member to another. `to`: the peer that is asked, in hexadecimal."""

    to: Name
    time: float
    """Seconds since 1970."""
    number: Name
    """Random: none counts twice."""
    act: HouseholdAct
    preset: Name = ""


class MemberState(msgspec.Struct, frozen=True):
    """What a member says of itself; a later release may say more."""

    name: Name
    activity: Name
    text: Text
    """Why, in English; `template` and `values` say it in the reader's language."""
    template: Text
    values: dict[str, int | float | str]
    paused: bool
    projects: Annotated[list[Name], msgspec.Meta(max_length=100)]
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)] | None
    """Of the unit in hand; None: there is none."""
    accepted: Amount
    credit_flops: Amount
    energy_kwh: Amount
    from_neighbours: Amount
    """Bytes of blobs since its start."""
    to_neighbours: Amount


class _Joining(msgspec.Struct, frozen=True):
    """Asks for the household's key."""

    to: Name
    time: float


class _Joined(msgspec.Struct, frozen=True):
    """The answer."""

    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


@dataclass
class Code:
    """A code that is shown. `key` is made of it; `wrong`: tries that did not have it."""

    text: str
    key: bytes
    ends_at: float
    wrong: int = 0


def read_code(text: str) -> str:
    """Return a code's letters as a person may type it. Raises `InputError`: it is none."""
    letters = "".join(text.upper().split()).replace("-", "")
    if len(letters) != _CODE_LETTERS or not set(letters) <= set(_LETTERS):
        raise InputError(
            f"A code has {_CODE_LETTERS} letters and digits, as ABCD-EFGH-JK23: copy it from the "
            "other PC's page."
        )
    return letters


def code_key(code: str) -> bytes:
    """Return the key that both sides make of a code's letters; it takes some milliseconds."""
    return hashlib.scrypt(code.encode(), salt=b"pleb household code 1", **_SCRYPT)


def seal(key: bytes, kind: str, text: bytes, about: bytes = b"") -> bytes:
    """Return a sealed message (ChaCha20-Poly1305, RFC 8439): its random nonce, then its bytes.

    `kind` separates keys by their use; `about` is what both sides know: an answer's request.
    """
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + ChaCha20Poly1305(_derived(key, kind)).encrypt(nonce, text, about)


def open_sealed(key: bytes, kind: str, sealed: bytes, about: bytes = b"") -> bytes:
    """Return a sealed message's text. Raises `ValueError`: another key or use, or altered."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(_derived(key, kind)).decrypt(nonce, rest, about)
    except (InvalidTag, ValueError) as error:
        raise ValueError("the message is not sealed by this household") from error


def _derived(key: bytes, kind: str) -> bytes:
    return hmac.digest(key, f"pleb household {kind}".encode(), "sha256")


class Household:
    """This PC's part in one. `answer` is set by the process: it does what a member asks.

    Args:
        path: where the key is kept; without the file this PC is in no household.
        peer: this process, in hexadecimal: requests name whom they are for.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, peer: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self.peer = peer
        self.key = _kept_key(path)
        """None: it is in none."""
        self.code: Code | None = None
        self.joining: bytes | None = None
        """The key of the code by which this PC is joining one."""
        self.on_change: Callable[[], None] = lambda: None
        self.answer: Callable[[HouseholdRequest], MemberState] | None = None
        self._seen: dict[str, float] = {}

    @property
    def beacon_keys(self) -> list[bytes]:
        """The keys by which members, and who joins by the code, find this PC."""
        keys = [] if self.key is None else [_derived(self.key, "beacon")]
        if (code := self.shown_code()) is not None:
            keys.append(_derived(code.key, "beacon"))
        if self.joining is not None:
            keys.append(_derived(self.joining, "beacon"))
        return keys

    @property
    def member_key(self) -> bytes | None:
        """Of beacons: whoever has it is a member."""
        return None if self.key is None else _derived(self.key, "beacon")

    def shown_code(self) -> Code | None:
        """Return the code that is good now, or None."""
        if self.code is not None and self._clock() >= self.code.ends_at:
            self.code = None
        return self.code

    def show_code(self, letters: str, key: bytes) -> Code:
        """Show a new code, by which one PC can join; the household begins with the first."""
        if self.key is None:
            self._keep(secrets.token_bytes(_KEY_BYTES))
        shown = "-".join(letters[at : at + _GROUP] for at in range(0, _CODE_LETTERS, _GROUP))
        self.code = Code(shown, key, self._clock() + CODE_SECONDS)
        self.on_change()
        return self.code

    @staticmethod
    def new_letters() -> str:
        """Return the letters of a new code."""
        return "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LETTERS))

    def leave(self) -> None:
        """Forget the household's key: this PC neither shows itself nor answers any more."""
        remove_private(self._path)
        self.key = self.code = self.joining = None
        self.on_change()

    # -- asked ------------------------------------------------------------------------------

    def request(self, to: str, act: HouseholdAct, preset: str = "") -> bytes:
        """Return a sealed request to a member. Raises `InputError`: this PC is in no household."""
        wanted = HouseholdRequest(to, self._clock(), secrets.token_hex(16), act, preset)
        return seal(self._own_key(), "request", msgspec.json.encode(wanted))

    def read_answer(self, sealed: bytes, request: bytes) -> MemberState:
        """Return a member's answer to a request. Raises `ValueError`: it is not one."""
        about = hashlib.sha256(request).digest()
        text = open_sealed(self._own_key(), "answer", sealed, about)
        return msgspec.json.decode(text, type=MemberState)

    def take(self, sealed: bytes) -> bytes:
        """Do what a member asks, and return the sealed answer.

        Raises:
            Refusal: `not_permitted`: it is no member's, for another agent, or comes again.
        """
        if self.key is None or self.answer is None:
            raise _not_permitted()
        try:
            text = open_sealed(self.key, "request", sealed)
            request = msgspec.json.decode(text, type=HouseholdRequest)
        except (ValueError, msgspec.DecodeError) as error:
            raise _not_permitted() from error
        now = self._clock()
        if request.to != self.peer or abs(request.time - now) > LIMITS.clock_tolerance_seconds:
            raise _not_permitted()
        if request.act is not HouseholdAct.SHOW:
            self._refuse_again(request, now)
        about = hashlib.sha256(sealed).digest()
        return seal(self.key, "answer", msgspec.json.encode(self.answer(request)), about)

    def _refuse_again(self, request: HouseholdRequest, now: float) -> None:
        """Refuse a request that was carried out before; what is too old is refused anyway."""
        oldest = now - 2 * LIMITS.clock_tolerance_seconds
        self._seen = {number: at for number, at in self._seen.items() if at > oldest}
        if request.number in self._seen or len(self._seen) >= _MOST_SEEN:
            raise _not_permitted()
        self._seen[request.number] = now

    # -- joining ----------------------------------------------------------------------------

    def ask_to_join(self, to: str, key: bytes) -> bytes:
        """Return the sealed request for the household's key."""
        return seal(key, "join", msgspec.json.encode(_Joining(to, self._clock())))

    def admit(self, sealed: bytes) -> bytes:
        """Return the sealed key for who has the code, which ends with that.

        Raises:
            Refusal: `not_permitted`: no code is shown, or it is another.
        """
        code = self.shown_code()
        if code is None or self.key is None:
            raise _not_permitted()
        try:
            joining = msgspec.json.decode(open_sealed(code.key, "join", sealed), type=_Joining)
        except (ValueError, msgspec.DecodeError) as error:
            code.wrong += 1
            if code.wrong >= _WRONG_TRIES:
                self.code = None
            raise _not_permitted() from error
        if joining.to != self.peer:
            raise _not_permitted()
        self.code = None
        about = hashlib.sha256(sealed).digest()
        answer = seal(code.key, "joined", msgspec.json.encode(_Joined(self.key.hex())), about)
        self.on_change()
        return answer

    def accept(self, sealed: bytes, request: bytes, key: bytes) -> None:
        """Become a member by the answer to `ask_to_join`. Raises `ValueError`: it is not one."""
        text = open_sealed(key, "joined", sealed, hashlib.sha256(request).digest())
        self._keep(bytes.fromhex(msgspec.json.decode(text, type=_Joined).key))
        self.on_change()

    def _keep(self, key: bytes) -> None:
        write_durably(self._path, key, private=True)
        self.key = key

    def _own_key(self) -> bytes:
        if self.key is None:
            raise InputError("This PC is in no household: `pleb-agent household` says how.")
        return self.key


def _kept_key(path: Path) -> bytes | None:
    with suppress(OSError):
        kept = read_regular(path, _KEY_BYTES)
        if len(kept) == _KEY_BYTES:
            return kept
    return None


def _not_permitted() -> Refusal:
    return Refusal(RefusalCode.NOT_PERMITTED, "Only members of this household are answered here.")
