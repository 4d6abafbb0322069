"""access: who may read a private project, with which keys, and what removing somebody does.

A project's keys follow from the coordinator's secret and their numbers (`protocol.sealing`); the
project's row has the numbers, and of a project that came from another coordinator the keys that it
had there, sealed with the secret. A number begins with the second in which it was made and ends
with random bits, so that none comes again after a restore from a backup, or under the name of a
project that was deleted: who had keys then has no later one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pleb_coordinator.blobs.store import checked_delta, missing_delta
from pleb_coordinator.core.access import (
    Reader,
    ReaderKind,
    is_private,
    read_reader,
    write_reader,
)
from pleb_shared.errors import InputError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol.ids import digest_of, fingerprint_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.roots import root_path
from pleb_shared.protocol.sealing import (
    HEADER_BYTES,
    Box,
    ProjectKey,
    Reading,
    SealedBlob,
    project_key,
    put_in_box,
    read_reading,
    seal,
    seal_mark,
    seal_parts,
    unseal,
    write_reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from pleb_coordinator.blobs.store import Blobs
    from pleb_coordinator.core.records import Project, StoredDelta
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.sealing import Keyring

__all__ = [
    "BroughtKeys",
    "ProjectBlobs",
    "blobs_of",
    "blobs_to_publish",
    "box_for",
    "box_for_keys",
    "brought_keys",
    "check_mark",
    "is_key_replaced",
    "keep_keys",
    "key_id_of",
    "keyring_of",
    "keys_of",
    "may_read",
    "new_key_number",
    "newest_key",
    "open_keys",
    "public_projects",
    "remove_member",
]

BroughtKeys = Mapping[int, ProjectKey]
"""Keys of another coordinator's by their numbers."""
_OF_RESULTS: Final = 0
"""The number of the key for results; those of members' keys are greater."""
_MOST_NUMBER: Final = 2**53 - 1
"""Of a key that is not the last one."""
_RANDOM_BITS: Final = 21
"""Below those of the time; a number has fewer than 53 bits in all for the next 60 years."""


def new_key_number(deps: Deps) -> int:
    """Return a number that no key has had."""
    low = int.from_bytes(deps.random_bytes(4), "big") % 2**_RANDOM_BITS
    return int(deps.clock()) << _RANDOM_BITS | low


def public_projects(tx: Transaction) -> list[Project]:
    """Return the projects that everybody may know of."""
    found = map(tx.projects.find, tx.projects.names())
    return [project for project in found if not is_private(project)]


def keys_of(deps: Deps, project: Project) -> list[ProjectKey]:
    """Return the keys of a private project, the newest one last; none: it is public."""
    brought = brought_keys(deps, project)
    return [
        brought.get(number) or project_key(deps.secret, project.name, number)
        for number in project.keys
    ]


def keyring_of(deps: Deps, project: Project) -> Keyring:
    """Return the keys of a private project by their ids; none: it is public."""
    return {key.id: key for key in keys_of(deps, project)}


def newest_key(deps: Deps, project: Project) -> ProjectKey:
    """Return the key that what is made now is sealed with. Of a private project only."""
    return max(keys_of(deps, project), key=lambda key: key.number)


def is_key_replaced(tx: Transaction, project: Project) -> bool:
    """Whether a private project has got a newer key since its row was read."""
    return tx.projects.get(project.id).key_numbers != project.key_numbers


# -- keys from another coordinator ---------------------------------------------------------------


def box_for_keys(deps: Deps, project: str, root: str) -> Box:
    """Return in what the owner of a root key (its fingerprint) brings a project's keys here."""
    told = f"pleb box for keys\n{project}\n{root}".encode()
    return Box(hmac.digest(deps.secret, told, "sha256"))


def open_keys(deps: Deps, project: str, root: str, box: bytes) -> BroughtKeys:
    """Return the keys by number that a researcher has brought.

    Raises:
        Refusal: `malformed`: the box is for somebody else, or holds something else; or no later
            key could be made.
    """
    try:
        found = read_reading(box_for_keys(deps, project, root).open(box, root)).keyring
    except TrustError as error:
        raise Refusal(RefusalCode.MALFORMED, f"{error} Move the project again.") from error
    keys = {key.number: key for key in found.values()}
    if not keys or len(keys) >= LIMITS.project_keys or max(keys) >= _MOST_NUMBER:
        message = f"{project} has brought {len(keys)} keys, after which no other one can come."
        raise Refusal(RefusalCode.MALFORMED, message)
    return keys


def brought_keys(deps: Deps, project: Project) -> BroughtKeys:
    """Return the keys by number that a project has brought from another coordinator."""
    if not project.brought_keys:
        return {}
    own = _key_of_keys(deps, project.name)
    data = unseal(project.brought_keys, {own.id: own})
    return {key.number: key for key in read_reading(data).keyring.values()}


def keep_keys(tx: Transaction, deps: Deps, project: Project, brought: BroughtKeys) -> None:
    """Keep brought keys, and add one that the coordinator before does not know.

    Its operator reads what was made before, and nothing that is made from now on. The project's
    metadata must be sealed with one of them.
    """
    reading = Reading.of("", brought.values())
    sealed = seal(write_reading(reading), _key_of_keys(deps, project.name))
    own = max(new_key_number(deps), max(brought) + 1)
    tx.projects.set_keys(project.id, [*sorted(brought), own])
    tx.projects.set_brought_keys(project.id, sealed)


def _key_of_keys(deps: Deps, project: str) -> ProjectKey:
    told = f"pleb brought keys\n{project}".encode()
    return ProjectKey(0, hmac.digest(deps.secret, told, "sha256"))


# -- blobs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProjectBlobs:
    """A project's blobs as the steps see them: those of a private one are sealed in the store.

    Every method raises what the store's does; `internal`: what is there is not sealed as it should
    be, or with a key of another secret.
    """

    blobs: Blobs
    keys: Keyring
    newest: ProjectKey | None = None
    """What `sealed` seals with; None: nothing is sealed."""
    deltas: ProjectKey | None = None
    """What results are sealed with: nobody but the coordinator ever has it."""

    def get(self, digest: str) -> bytes:
        """Return what is in a blob."""
        data = self.blobs.get(digest)
        try:
            return unseal(data, self.keys) if self.keys else data
        except TrustError as error:
            raise _not_ours(digest) from error

    def size(self, digest: str) -> int:
        """Return how many bytes are in a blob."""
        return self._opened(digest).size if self.keys else self.blobs.size(digest)

    def read(self, digest: str, start: int, end: int) -> bytes:
        """Return what is in a blob from `start` up to `end`."""
        if not self.keys:
            return self.blobs.read(digest, start, end)
        try:
            return self._opened(digest).read(start, end)
        except TrustError as error:
            raise _not_ours(digest) from error

    def sealed(self, data: bytes) -> bytes:
        """Return the bytes as they are stored, and as hosts get them."""
        return data if self.newest is None else seal(data, self.newest)

    def sealed_delta(self, data: bytes) -> tuple[bytes, str]:
        """Return a result's bytes as they are stored, and their digest if they are sealed."""
        if self.deltas is None:
            return data, ""
        sealed = seal(data, self.deltas)
        return sealed, digest_of(sealed)

    def put_delta_file(self, assignment: int, file: IO[bytes]) -> str:
        """Store the result in a file of `Blobs.temporary`; return as `sealed_delta`."""
        if self.deltas is None:
            self.blobs.put_delta_file(assignment, file)
            return ""
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]
        size, hasher = file.tell(), hashlib.sha256()

        def read(start: int, end: int) -> bytes:
            file.seek(start)
            return file.read(end - start)

        with self.blobs.temporary() as sealed:
            for part in seal_parts(read, size, digest, self.deltas):
                hasher.update(part)
                sealed.write(part)
            self.blobs.put_delta_file(assignment, sealed)
        return hasher.hexdigest()

    def delta_view(self, stored: StoredDelta, digest: str | None) -> memoryview:
        """Return a result's bytes; those that are sealed are opened in memory. Else as the store's.

        Raises:
            Refusal: `unknown_blob`: also what is sealed with another secret.
        """
        if self.deltas is None:
            return self.blobs.delta_view(stored, digest)
        view = self.blobs.delta_view(stored, None)
        try:
            sealed = SealedBlob(
                lambda start, end: bytes(view[start:end]),
                len(view),
                {self.deltas.id: self.deltas},
            )
            opened, end = bytearray(sealed.size), 0
            for part in sealed.parts():
                opened[end : end + len(part)] = part
                end += len(part)
        except TrustError as error:
            raise missing_delta(stored, "damaged, or sealed with another secret,") from error
        return checked_delta(memoryview(opened).toreadonly(), stored, digest)

    def _opened(self, digest: str) -> SealedBlob:
        read = partial(self.blobs.read, digest)
        try:
            return SealedBlob(read, self.blobs.size(digest), self.keys)
        except TrustError as error:
            raise _not_ours(digest) from error


def blobs_of(deps: Deps, project: Project) -> ProjectBlobs:
    """Return the blobs of a project."""
    if not is_private(project):
        return ProjectBlobs(deps.blobs, {})
    own = project_key(deps.secret, project.name, _OF_RESULTS)
    return ProjectBlobs(deps.blobs, keyring_of(deps, project), newest_key(deps, project), own)


def key_to_publish(deps: Deps, metadata: ProjectMetadata, brought: BroughtKeys) -> ProjectKey:
    """Return the key that all blobs of private metadata are sealed with."""
    number = metadata.sealed_with
    return brought.get(number) or project_key(deps.secret, metadata.project, number)


def blobs_to_publish(deps: Deps, metadata: ProjectMetadata, brought: BroughtKeys) -> ProjectBlobs:
    """Return the blobs that metadata name which are not in force yet: one key has sealed all.

    With `brought` keys, also those of a history.
    """
    if metadata.access == "public":
        return ProjectBlobs(deps.blobs, {})
    keys = [key_to_publish(deps, metadata, brought), *brought.values()]
    return ProjectBlobs(deps.blobs, {key.id: key for key in keys})


def key_id_of(blobs: Blobs, digest: str) -> bytes | None:
    """Return the id of the key that a blob is sealed with; None: it is not. It may be missing."""
    size = blobs.size(digest)
    mark = seal_mark(blobs.read(digest, 0, min(size, HEADER_BYTES)))
    return None if mark is None else mark[1]


def check_mark(deps: Deps, metadata: ProjectMetadata, brought: BroughtKeys, digest: str) -> None:
    """Check that a blob of metadata is sealed with their key, or with none if they are public.

    A public project that named a private one's blob would have the coordinator read it aloud.

    Raises:
        Refusal: `malformed`.
    """
    found, wanted = key_id_of(deps.blobs, digest), None
    if metadata.access == "invited":
        wanted = key_to_publish(deps, metadata, brought).id
    if found != wanted:
        how = "sealed" if wanted is None else "not sealed with the key that the metadata name"
        message = f"Blob {digest[:12]}... is {how}: publish again with `pleb-project publish`."
        raise Refusal(RefusalCode.MALFORMED, message)


def _not_ours(digest: str) -> Refusal:
    message = (
        f"Blob {digest[:12]}... is not sealed with a key of this coordinator's secret: restore the "
        "file `secret` that belongs to this home."
    )
    return Refusal(RefusalCode.INTERNAL, message)


# -- readers -----------------------------------------------------------------------------------


def may_read(tx: Transaction, deps: Deps, project: Project, text: str) -> bool:
    """Whether who has this text may read a private project now."""
    reader, now = read_reader(deps.secret, text), deps.clock()
    if reader is None or reader.project != project.name:
        return False
    if reader.kind is ReaderKind.OPERATOR:
        return int(reader.name, 16) > now
    if reader.kind is ReaderKind.ROOT:
        path = map(fingerprint_of, root_path(project.metadata))
        return reader.name in set(path) - set(project.metadata.revoked)
    try:
        host = tx.hosts.find(project.id, reader.name)
    except Refusal:
        return False
    return host.banned_until <= now


def box_for(
    deps: Deps, keys: Iterable[ProjectKey], reader: Reader, seal_to: str, about: str
) -> bytes:
    """Return a project's keys, and what the reader is known by, for who signed `seal_to`.

    Raises:
        Refusal: `malformed`: `seal_to` is no key.
    """
    reading = Reading.of(write_reader(deps.secret, reader), keys)
    try:
        return put_in_box(write_reading(reading), seal_to, about)
    except InputError as error:
        raise Refusal(RefusalCode.MALFORMED, str(error)) from error


def remove_member(tx: Transaction, deps: Deps, project: Project, account: str) -> int:
    """Replace the project's key, and revoke what is left of the invites that the account used.

    Its hosts must be banned in the same transaction. What was published before stays readable to
    who has the earlier keys; nothing that is made from now on is.

    Returns:
        How many invites were revoked.

    Raises:
        InputError: the key was replaced as often as the protocol allows.
    """
    if len(project.keys) >= LIMITS.project_keys:
        raise InputError(
            f"The key of {project.name} was replaced {len(project.keys) - 1} times, which is the "
            "most: publish the project under another name."
        )
    number = max(new_key_number(deps), max(project.keys) + 1)
    tx.projects.set_keys(project.id, [*project.keys, number])
    used = {host.invite for host in tx.hosts.of_account(project.id, account)} - {""}
    revoked = sum(tx.invites.revoke(token_hash) for token_hash in used)
    tx.events.add(project.id, deps.clock(), "key_replaced", number=number)
    return revoked
