"""Attaching: pin the root, make keys, enrol (docs/protocol.md 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pleb_agent import AGENT
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.sentence import say
from pleb_agent.core.trust import Memory, RootKeyError, TrustedProject, moved_link
from pleb_agent.journal.rows import NewProject, ProjectRow
from pleb_shared.errors import InputError, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import parse_attach_link
from pleb_shared.protocol.limits import LIMITS, PROTOCOLS
from pleb_shared.protocol.messages import EnrolRequest, PayloadType
from pleb_shared.protocol.sealing import Box, read_reading
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_system.network_errors import UnreachableError

if TYPE_CHECKING:
    from pleb_agent.client.coordinator import CoordinatorClient
    from pleb_agent.journal.journal import Journal
    from pleb_agent.journal.keys import KeyStore
    from pleb_agent.loop.services import ClientFactory, Clock
    from pleb_shared.protocol.ids import AttachLink
    from pleb_shared.protocol.messages import EnrolReply
    from pleb_shared.protocol.project import Family, ProjectMetadata
    from pleb_shared.protocol.sealing import Reading
    from pleb_shared.protocol.status import ProjectStatus

__all__ = ["Attaching", "SignedProject", "enrol_request", "leave_host", "reading_in", "suits_cards"]

_MOST_MOVES: Final = 4
_SHORTEST_INVITE: Final = 16
_LONGEST_INVITE: Final = 128
"""Characters of a `Token`."""


@dataclass(frozen=True)
class SignedProject:
    """A project as its root key signed it."""

    link: AttachLink
    metadata: ProjectMetadata


@dataclass(frozen=True)
class Attaching:
    """What attaching needs."""

    journal: Journal
    keys: KeyStore
    clock: Clock
    make_client: ClientFactory

    async def attach(
        self, link_text: str, *, invite: str | None, name: str, only: bool = False
    ) -> ProjectRow:
        """Attach a project with all members of its family; attaching it again is harmless.

        A link with an account's key joins that account, with a host key of our own. `only`: no
        other member of the family is attached.

        Returns:
            The project that the link names.

        Raises:
            InputError: not an attach link, not an invite, or this PC is in another account already.
            TrustError: the coordinator does not have what the link pins.
            NetworkError: it cannot be reached.
            Refusal: it refused.
        """
        link = parse_attach_link(link_text)
        row, family = await self._attach(link, invite=invite, name=name)
        others = [] if family is None or only else family.members
        for member in others:
            if member != link.project:
                keys = (row.host_key_file, row.account_key_file)
                await self._attach(
                    replace(link, project=member), invite=invite, name=name, keys=keys
                )
        return row

    async def _attach(
        self,
        link: AttachLink,
        *,
        invite: str | None,
        name: str,
        keys: tuple[str, str] | None = None,
        most_moves: int = _MOST_MOVES,
    ) -> tuple[ProjectRow, Family | None]:
        """Attach one project; return it and its family.

        `keys`: the files of the host's and the account's key, which are those of the member of its
        family that was attached first. `most_moves`: how often a moved project is followed.
        """
        invite = invite or link.invite
        if invite is not None and not _SHORTEST_INVITE <= len(invite) <= _LONGEST_INVITE:
            raise InputError(
                "This is not an invite: copy all of it, as the operator sent it to you."
            )
        known = self._known(link)
        self._refuse_second_address(link)
        # A link with a later root of the same project leads to the keys that the host has.
        host_file, account_file = (
            (known.host_key_file, known.account_key_file)
            if known
            else keys or self.keys.names(link)
        )
        if link.account is None:
            account_key = self.keys.load_or_make(account_file)
        else:
            account_key = SigningKey.from_bytes(bytes.fromhex(link.account))
            if known is not None and self.account(known) != account_key.fingerprint:
                raise InputError(
                    f"This PC already belongs to another account of {known.name}: run "
                    f"`pleb-agent detach {known.name}` first, then use the link again."
                )
        host_key = self.keys.load_or_make(host_file)
        memory = known.memory if known else Memory()
        trust = TrustedProject(link.project, link.root, host_key.fingerprint, memory)
        client, box = self.make_client(link), Box()
        reading = self.keys.reading(host_file)
        try:
            self._read_as(client, link, reading, invite)
            envelope = await _first_metadata(client, link)
            self._accept(trust, envelope, attached=known is not None)
            if (moved := moved_link(link, trust.metadata)) != link and most_moves:
                keys, left = (host_file, account_file), most_moves - 1
                return await self._attach(
                    moved, invite=invite, name=name, keys=keys, most_moves=left
                )
            request = enrol_request(
                link.project,
                host_key,
                account_key,
                self.clock(),
                invite=invite,
                name=name,
                seal_to=box.public,
            )
            reply, envelope = await self._enrol(client, trust, request, envelope)
            reading = reading_in(trust, reply, box)
        finally:
            await client.close()
        if reading is not None:
            self.keys.keep_reading(host_file, reading)
        if link.account is not None:
            self.keys.save(account_file, account_key)
        new = NewProject(
            link=str(link),
            host_key_file=host_file,
            account_key_file=account_file,
            host=host_key.fingerprint,
            role=reply.role.value,
            metadata=envelope,
            memory=trust.memory,
            sequence=reply.sequence,
            family=_family_name(trust),
        )
        row = self.journal.add_project(new, self.clock())
        if known is None:
            sentence = say("Attached {project}.", project=row.name)
            self.journal.note_event(Event(self.clock(), EventKind.ATTACH, row.name, sentence))
        return row, trust.metadata.family

    @staticmethod
    def _read_as(
        client: CoordinatorClient, link: AttachLink, reading: Reading | None, invite: str | None
    ) -> None:
        """Show who asks, in case that the project is private."""
        if reading is not None:
            client.read_as(reading.reader)
        elif link.reader or link.invite:
            client.read_as(link.reader or link.invite or "")
        elif invite is not None and client.is_way_private:
            client.read_as(invite)

    def _refuse_second_address(self, link: AttachLink) -> None:
        """Refuse a project that is attached by another address: it would be a second host.

        Raises:
            InputError: it is; the message says how to change its address.
        """
        for row in self.journal.projects():
            same = (row.name, row.attach_link.root) == (link.project, link.root)
            if same and row.base_url != link.base_url and not row.detaching:
                raise InputError(
                    f"{row.name} is attached already, by {row.base_url}: this PC would be two "
                    f"hosts of it. If its address has changed, run `pleb-agent detach {row.name}` "
                    "first."
                )

    async def add_device(self, row: ProjectRow, device: str) -> ProjectRow | None:
        """Enrol a card of this PC with an attached project, as a host of its own.

        Each computes at its own speed and in its own class, and answers for what it reports; it is
        in the same account. `row`: the processor's. None: the project was left meanwhile.

        Raises:
            InputError: a key cannot be read.
            TrustError, NetworkError, Refusal: as `attach`.
        """
        link = row.attach_link
        account_key = self.keys.load(row.account_key_file)
        host_file = self.keys.of_card(row.host_key_file, device)
        host_key = self.keys.load_or_make(host_file)
        trust = TrustedProject(row.name, link.root, host_key.fingerprint, row.memory)
        client, box = self.make_client(link), Box()
        envelope, reading = row.metadata, self.keys.reading(row.host_key_file)
        try:
            self._read_as(client, link, reading, None)
            trust.update_metadata(envelope, self.clock())
            request = enrol_request(
                row.name,
                host_key,
                account_key,
                self.clock(),
                invite=None,
                name="",
                seal_to=box.public,
            )
            reply, envelope = await self._enrol(client, trust, request, envelope)
            reading = reading_in(trust, reply, box)
        finally:
            await client.close()
        if reading is not None:
            self.keys.keep_reading(host_file, reading)
        if not any(_is_same(one, row) and not one.detaching for one in self.journal.projects()):
            if host_file not in _key_files(self.journal):
                self.keys.forget(host_file)
            return None
        new = NewProject(
            link=row.link,
            host_key_file=host_file,
            account_key_file=row.account_key_file,
            host=host_key.fingerprint,
            role=reply.role.value,
            metadata=envelope,
            memory=trust.memory,
            sequence=reply.sequence,
            device=device,
            family=_family_name(trust),
        )
        return self.journal.add_project(new, self.clock())

    def _accept(self, trust: TrustedProject, envelope: bytes, *, attached: bool) -> None:
        """Accept the first metadata; of a project that is attached, a wrong link is said so."""
        try:
            trust.update_metadata(envelope, self.clock())
        except RootKeyError as error:
            if not attached:
                raise
            raise TrustError(
                f"{trust.project} is attached with another root key: check that the new link is "
                f"right, then run `pleb-agent detach {trust.project}` first."
            ) from error

    async def _enrol(
        self,
        client: CoordinatorClient,
        trust: TrustedProject,
        request: bytes,
        envelope: bytes,
    ) -> tuple[EnrolReply, bytes]:
        """Return the reply, and the metadata that it is signed by: the online key may be newer."""
        answer = await client.enrol(trust.project, request)
        try:
            return trust.enrol_reply(answer, self.clock()), envelope
        except TrustError:
            envelope = await client.metadata(trust.project)
            trust.update_metadata(envelope, self.clock())
            return trust.enrol_reply(answer, self.clock()), envelope

    async def look_at(self, link_text: str) -> SignedProject:
        """Return what a link's project is, verified as for attaching; nothing is stored or sent.

        Raises:
            InputError: not an attach link.
            TrustError: the coordinator does not have what the link pins.
            NetworkError: it cannot be reached.
            Refusal: it refused.
        """
        link = replace(parse_attach_link(link_text), account=None)
        trust = TrustedProject(link.project, link.root, "", Memory())
        client = self.make_client(link)
        known = self._known(link)
        reading = None if known is None else self.keys.reading(known.host_key_file)
        try:
            self._read_as(client, link, reading, None)
            trust.update_metadata(await _first_metadata(client, link), self.clock())
        finally:
            await client.close()
        return SignedProject(link, trust.metadata)

    async def status(self, row: ProjectRow) -> ProjectStatus:
        """Return an attached project's public status.

        Raises:
            NetworkError: it cannot be reached, or answers something else.
        """
        client = self.make_client(row.attach_link)
        try:
            self._read_as(client, row.attach_link, self.keys.reading(row.host_key_file), None)
            return await client.status(row.name)
        finally:
            await client.close()
            received, sent = client.traffic.take()
            self.journal.count(row.id, self.clock(), bytes_received=received, bytes_sent=sent)

    def account_link(self, row: ProjectRow) -> str:
        """Return the text that makes another PC part of this project's account.

        It is a secret: anyone who has it can act as this account. Never log it.

        Raises:
            InputError: the account's key cannot be read.
        """
        seed = self.keys.load(row.account_key_file).to_bytes().hex()
        reading = self.keys.reading(row.host_key_file)
        return row.attach_link.with_account(seed, "" if reading is None else reading.reader)

    def reading(self, row: ProjectRow) -> Reading:
        """Return by what this PC reads a private project: a secret.

        Raises:
            InputError: it is public, or the keys cannot be read.
        """
        reading = self.keys.reading(row.host_key_file)
        if reading is None:
            raise InputError(f"{row.name} is public: everybody can read it by its link.")
        return reading

    def account(self, row: ProjectRow) -> str:
        """Return the fingerprint of the account's key.

        Raises:
            InputError: it cannot be read.
        """
        return self.keys.load(row.account_key_file).fingerprint

    def _known(self, link: AttachLink) -> ProjectRow | None:
        for row in self.journal.projects():
            if (row.base_url, row.name) == (link.base_url, link.project):
                return row
        return None


def suits_cards(row: ProjectRow, now: float) -> bool:
    """Whether cards may join the project: only processors have strict numerics.

    Of a project whose permission has ended nothing is known until it is renewed.
    """
    trust = TrustedProject(row.name, row.attach_link.root, row.host, row.memory)
    try:
        trust.update_metadata(row.metadata, now)
    except TrustError:
        return False
    return trust.metadata.verification.numerics == "native"


def leave_host(journal: Journal, keys: KeyStore, row: ProjectRow) -> None:
    """Forget a host and its key; with the last one of a project, all keys of the project.

    Keys with which another member of the project's family is attached stay.
    """
    names = {row.host_key_file}
    if len(journal.hosts(row.id)) == 1:
        names.add(row.account_key_file)
    journal.remove_project(row.id)
    names -= _key_files(journal)
    if row.account_key_file in names:  # also of devices that never got an answer
        names.update(keys.of_cards(row.host_key_file, row.device))
    keys.forget(*names)


def _key_files(journal: Journal) -> set[str]:
    """Return the names of the keys that attached projects use."""
    return {name for row in journal.hosts() for name in (row.host_key_file, row.account_key_file)}


def _is_same(one: ProjectRow, other: ProjectRow) -> bool:
    return (one.base_url, one.name, one.host) == (other.base_url, other.name, other.host)


def _family_name(trust: TrustedProject) -> str:
    family = trust.metadata.family
    return "" if family is None else family.name


def enrol_request(
    project: str,
    host_key: SigningKey,
    account_key: SigningKey,
    now: float,
    *,
    invite: str | None,
    name: str,
    seal_to: str,
) -> bytes:
    """Return a signed request to enrol a host in an account; both keys sign it.

    `seal_to`: to what a private project's keys are to be sealed.
    """
    statement = EnrolRequest(
        protocols=list(PROTOCOLS),
        project=project,
        host_key=host_key.public,
        account_key=account_key.public,
        display_name=name,
        invite=invite,
        seal_to=seal_to,
        agent=AGENT,
        issued_at=int(now),
        expires_at=int(now) + LIMITS.request_lifetime_seconds,
    )
    return sign_payload(strict_json.encode(statement), PayloadType.ENROL, host_key, account_key)


def reading_in(trust: TrustedProject, reply: EnrolReply, box: Box) -> Reading | None:
    """Return by what the host reads the project from now on; None: it is public.

    Raises:
        TrustError: a private project's keys did not come, or are for somebody else.
    """
    if trust.metadata.access == "public":
        return None
    if reply.box is None:
        raise TrustError(f"The keys of {trust.project}, a private project, did not come.")
    return read_reading(box.open(reply.box, trust.host))


async def _first_metadata(client: CoordinatorClient, link: AttachLink) -> bytes:
    """Return the metadata; the error says that, unlike for an attached project, nothing retries."""
    try:
        return await client.metadata(link.project)
    except UnreachableError as error:
        from pleb_agent.client.http import TRIES_AGAIN

        hint = "check the link and your network, then try again"
        raise UnreachableError(str(error).replace(TRIES_AGAIN, hint)) from error
