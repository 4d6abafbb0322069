"""The steps of a unit's life.

Each takes a `Transaction` and what else it needs, and returns values. None calls another. Below
them is what several need, the consequences of a result (`outcome`) and of a decision (`verdict`);
above them `serve`, which puts accept, issue and tell in order. Who calls them:

    HTTP process
        serve       a work request, in one transaction
        enrol       a new host
        upload      find_upload, append_part; at the end check_upload, outside of transactions,
                    then finish_upload or refuse_upload
        landed      is_direct, next_parts; at the end land
        publish     open_publication, admit, examine (outside of transactions), publish
    background process (`jobs.loop` lists its jobs; each has find, compute, commit)
        expire      leases and uploads that ran out, versions that are too old
        calibrate   which hosts compute alike
        landed      results that hosts have put into the bucket themselves
        verify      which results count
        rollback    an earlier version as the newest one; the command line does it, too
        advance     the next version
        plan        its round
        sweep       bytes that are not needed any more
        thin        old versions, of which less is kept
        retain      rows that are not needed any more
    command line
        orphans     files that nothing else will remove
        invite      a token for hosts, a publisher or an administrator
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from pleb_coordinator.aggregation.noise import NoiseKey
from pleb_coordinator.blobs.local import LocalBlobs
from pleb_coordinator.core.fitting import RoundsAhead
from pleb_coordinator.core.numbers import AssignmentNumbers
from pleb_coordinator.home.config import Networks, Retention
from pleb_coordinator.home.keys import OnlineKeys, read_secret
from pleb_shared.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pleb_coordinator.blobs.store import Blobs
    from pleb_coordinator.core.records import Assignment, Host, Project, UnitRow
    from pleb_coordinator.home.config import CoordinatorConfig
    from pleb_coordinator.home.layout import Home
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Deps", "HostChanges", "RequestContext", "deps_of", "open_blobs"]


@dataclass(frozen=True)
class Deps:
    """What steps need from the world; built once in each process by `deps_of`."""

    clock: Callable[[], float]
    """Seconds since 1970 (UTC)."""
    random_bytes: Callable[[int], bytes]
    """Unpredictable bytes, for nonces and tokens (`secrets.token_bytes`)."""
    secret: bytes
    """32 bytes that hide what is drawn and in which order; they never leave the coordinator."""
    online_keys: OnlineKeys
    """The keys that root keys delegate to. Replies about a project are signed by the one that its
    metadata in force names."""
    blobs: Blobs
    networks: Networks = field(default_factory=Networks)
    retention: Retention = field(default_factory=Retention)

    @cached_property
    def numbers(self) -> AssignmentNumbers:
        """The numbers by which hosts know their assignments."""
        return AssignmentNumbers(self.secret)

    @cached_property
    def rounds_ahead(self) -> RoundsAhead:
        """What this process remembers of open rounds."""
        return RoundsAhead()

    @cached_property
    def noise_key(self) -> NoiseKey:
        """What the noise of versions follows from."""
        return NoiseKey(self.secret)


def deps_of(home: Home, clock: Callable[[], float], config: CoordinatorConfig) -> Deps:
    """Return what steps need, from the files of a home.

    Raises:
        InputError: the home lacks its keys.
    """
    return Deps(
        clock=clock,
        random_bytes=secrets.token_bytes,
        secret=read_secret(home.secret_file),
        online_keys=OnlineKeys(home),
        blobs=open_blobs(home, config),
        networks=config.networks,
        retention=config.retention,
    )


def open_blobs(home: Home, config: CoordinatorConfig) -> Blobs:
    """Return the home's blob store.

    Raises:
        InputError: it is in a bucket, and what reaches one is not installed.
    """
    if not config.blobs:
        return LocalBlobs(home.path)
    try:
        module = import_module("pleb_coordinator.blobs.s3")
    except ImportError as error:
        message = f"S3 needs a package ({error}): pip install 'pleb-cluster[s3]'."
        raise InputError(message) from error
    blobs: Blobs = module.S3Blobs(config.blobs, **asdict(config.s3))
    return blobs


@dataclass
class HostChanges:
    """What a request changes in its host's row; `serve` stores it with what else it has seen."""

    shards: Sequence[int] | None = None
    """The first shards of its last units."""
    paced_until: float | None = None


@dataclass(frozen=True)
class RequestContext:
    """What stays the same while one work request is served."""

    tx: Transaction
    deps: Deps
    project: Project
    host: Host
    now: float
    free_seconds: float | None = None
    """By when the host must be done, as it says; None: it need not."""
    usually_free_seconds: float | None = None
    """For how long the host probably stays free, as it says; None: it does not know."""
    changes: HostChanges = field(default_factory=HostChanges)
    in_hand: list[tuple[Assignment, UnitRow]] = field(default_factory=list)
    """What the host computes or uploads, oldest first; `leasing` adds what it is given."""
    has_own_data: bool = False
    """Whether the host says that it has data of its own for the project."""
