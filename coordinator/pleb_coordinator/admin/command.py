"""A command of an operator, and what it is carried out on.

    class BanHost(Command[HostChanged]):      # what is asked for: its fields travel as JSON
        words = "host ban"
        project: Text
        def carry_out(self, desk: Desk) -> HostChanged: ...

`admin.table` says who may ask for each, and carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, TypeVar, get_args

import msgspec

from pleb_coordinator.admin.access import link_base, opened
from pleb_coordinator.core.numbers import AssignmentNumbers
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.keys import read_secret
from pleb_coordinator.steps import deps_of
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.unit import Struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pleb_coordinator.api.links import LinkBase
    from pleb_coordinator.core.admins import AdminRole
    from pleb_coordinator.core.records import Admin
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Store

__all__ = ["MOST_DAYS", "Actor", "Command", "Days", "Desk", "Limit", "Number", "Text", "Value"]

T = TypeVar("T")

Text = Annotated[str, msgspec.Meta(max_length=500)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
MOST_DAYS: Final = 36_500
Days = Annotated[float, msgspec.Meta(gt=0, le=MOST_DAYS)]


@dataclass(frozen=True)
class Actor:
    """Who asks."""

    admin: str
    """The admin's name; empty: an account of the coordinator's machine."""
    who: str
    """For the audit log."""
    role: AdminRole
    projects: tuple[str, ...] = ()
    """The projects that a publisher may change; empty: all."""

    @classmethod
    def of(cls, admin: Admin) -> Actor:
        """Return the actor that an admin is."""
        return cls(admin.name, f"admin {admin.name}", admin.role, admin.projects)

    def check_project(self, name: str) -> None:
        """Return if the actor may change a project.

        Raises:
            Refusal: `not_permitted`.
        """
        if self.projects and name not in self.projects:
            message = f"{self.admin} may change {', '.join(self.projects)} alone: ask an operator."
            raise Refusal(RefusalCode.NOT_PERMITTED, message)


@dataclass(frozen=True)
class Desk:
    """A coordinator's home, as commands work on it, and who asks."""

    home: Home
    clock: Callable[[], float]
    actor: Actor
    say: Callable[[str], None] = lambda _: None
    """Tells a person what happens now, who waits for it."""
    served_at: LinkBase | None = None
    """The address in links, where the process is the server; None: the home says."""

    def opened(self) -> AbstractContextManager[Store]:
        """Open the home's store. Raises `InputError`: there is no home, or of another version."""
        return opened(self.home)

    @cached_property
    def links(self) -> LinkBase:
        """The address in links."""
        return self.served_at or link_base(self.home)

    @cached_property
    def numbers(self) -> AssignmentNumbers:
        """The numbers by which hosts know their assignments. Raises `InputError`: no secret."""
        return AssignmentNumbers(read_secret(self.home.secret_file))

    @cached_property
    def deps(self) -> Deps:
        """What steps need. Raises `InputError`: the home lacks its configuration or keys."""
        return deps_of(self.home, self.clock, read_config(self.home.config_file))


class Value(msgspec.Struct, frozen=True):
    """What a command returns; as JSON it is the answer to programs."""


class Command(Struct, Generic[T], frozen=True):
    """What an operator asks for."""

    words: ClassVar[str]
    """As they are typed after the program's name."""

    def carry_out(self, desk: Desk) -> T:
        """Do it.

        Raises:
            PlebError: it cannot be done; nothing was changed.
        """
        raise NotImplementedError

    def told(self, answer: T) -> dict[str, Any]:  # noqa: ARG002 - for those that name what they did
        """Return what the audit log says: what was asked for, and what it was done to.

        No secret is in it.
        """
        given = msgspec.structs.asdict(self)
        given.pop("project", None)  # it has a column of its own
        return {name: value for name, value in given.items() if value not in (None, False, "", ())}

    @classmethod
    def answer_type(cls) -> Any:
        """Return the type of what `carry_out` returns."""
        [base] = cls.__orig_bases__  # type: ignore[attr-defined]
        [found] = get_args(base)
        return found
