"""family: projects that are published together, and what one of them knows of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.roots import root_path

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Host, Project
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import ProjectMetadata

__all__ = ["check_family", "family_members", "hosts_elsewhere"]


def check_family(tx: Transaction, metadata: ProjectMetadata, first: str) -> list[Project]:
    """Return the other members of a project's family that are here; none: it has no family.

    `metadata` are those to be published, whose project's first root key is `first`.

    The first root key of a project is the same for ever, and that of all members is the same: so
    nobody else can add one.

    Raises:
        Refusal: `bad_signature`: the family, or the name that a project would take from one,
            belongs to another root key; `malformed`: a project has the family's name.
    """
    family = metadata.family
    taken = {} if family is None else {family.name, metadata.project}
    others: list[Project] = []
    for name in tx.projects.names():
        known = tx.projects.find(name)
        theirs = known.metadata.family
        if known.name == metadata.project:
            continue
        if family is not None and known.name == family.name:
            message = f"There is a project {family.name!r} already: give the family another name."
            raise Refusal(RefusalCode.MALFORMED, message)
        if theirs is None or not {theirs.name, *theirs.members} & {metadata.project, *taken}:
            continue
        ours = root_path(known.metadata)[0] == first
        if not ours or family is None or theirs.name != family.name:
            message = (
                f"The name {metadata.project!r} or its family belongs to {theirs.name!r}, of "
                f"{'the same' if ours else 'another'} root key: choose another name."
            )
            raise Refusal(RefusalCode.BAD_SIGNATURE, message)
        others.append(known)
    return others


def family_members(tx: Transaction, name: str) -> list[Project]:
    """Return the projects of a family that are here, in its order; none: it is not known."""
    found = [tx.projects.find(project) for project in tx.projects.names()]
    members = [one for one in found if one.metadata.family and one.metadata.family.name == name]
    return sorted(members, key=_place)


def hosts_elsewhere(
    tx: Transaction, project: Project, fingerprint: str, account: str
) -> list[Host]:
    """Return the same host, of the same account, in the other members of the project's family.

    A PC joins all of them with one key, with which it has signed.
    """
    family = project.metadata.family
    members = [] if family is None else family_members(tx, family.name)
    found = []
    for member in members:
        try:
            host = tx.hosts.find(member.id, fingerprint)
        except Refusal:
            continue
        if member.id != project.id and host.account == account:
            found.append(host)
    return found


def _place(project: Project) -> int:
    family = project.metadata.family
    return 0 if family is None else family.number_of(project.name)
