"""The composition root of the HTTP process: builds everything that its routes use."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pleb_coordinator.admin.access import store_at
from pleb_coordinator.api.addresses import AddressLimit
from pleb_coordinator.api.blob_keys import BlobKeys
from pleb_coordinator.api.clock_watch import ClockWatch
from pleb_coordinator.api.context import Api
from pleb_coordinator.api.counters import RequestCounters
from pleb_coordinator.api.metrics_server import process_lines
from pleb_coordinator.api.middleware import ErrorMiddleware
from pleb_coordinator.api.peers import Peers
from pleb_coordinator.api.project_metrics import ProjectMetrics
from pleb_coordinator.api.routes import api_routes
from pleb_coordinator.api.status import StatusCache
from pleb_coordinator.api.waiting import Changes, Waiters
from pleb_coordinator.blobs.parts import LeafCache
from pleb_coordinator.core.voices import is_renamed
from pleb_coordinator.home.config import store_place
from pleb_coordinator.home.downloads import Downloads
from pleb_coordinator.home.machine import note_clock, read_machine
from pleb_coordinator.home.models import ModelFiles
from pleb_coordinator.steps import deps_of
from pleb_coordinator.store.group_commit import GroupCommit
from pleb_coordinator.store.transaction import Store
from pleb_coordinator.web_app.admin_api import Admins, admin_routes
from pleb_coordinator.web_app.operator_pages import operator_routes
from pleb_coordinator.web_app.pages import page_routes, static_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pleb_coordinator.api.links import LinkBase
    from pleb_coordinator.home.config import CoordinatorConfig
    from pleb_coordinator.home.layout import Home

__all__ = ["WebApp", "build_app", "shifted_clock"]


@dataclass(frozen=True)
class WebApp:
    """The application, and the stores to close after it."""

    app: Starlette
    api: Api
    stores: tuple[Store, ...]
    connections: int
    """At most, in all and of one address."""
    connections_per_address: int
    projects: ProjectMetrics
    home: Home

    def metrics_lines(self) -> Iterator[str]:
        """Yield the lines of `/metrics` on the operator's port; any one thread may call it."""
        gauges = {
            "waiters": float(self.api.changes.places_taken),
            "listeners": float(self.api.listeners.taken),
        }
        yield self.api.counters.text(gauges).rstrip()
        yield from process_lines("http")
        yield from self.projects.lines()

    def fault(self) -> str:
        """Return why requests cannot be served; empty: they can."""
        full = read_machine(self.home, self.api.deps.clock()).disk_is_full
        return "The disk of the home is full." if full else ""

    def close(self) -> None:
        """Close the stores."""
        for store in self.stores:
            store.close()


def build_app(
    home: Home, config: CoordinatorConfig, links: LinkBase, clock: Callable[[], float]
) -> WebApp:
    """Return the application on the data directory `home`. A database may take a while to start.

    Raises:
        InputError: the home lacks its store or keys, or they are of another version.
    """
    place = store_place(home, config)
    store = store_at(place, logging.getLogger(__name__).warning)
    for_pages, for_metrics = Store(place), Store(place)
    with store.write() as tx:  # `networks.own` may have changed since the last start
        tx.hosts.forget_networks(lambda name: is_renamed(name, config.networks.own_networks))
    deps = deps_of(home, clock, config)
    changes, closing = Changes(store, most_waiters=config.waiters), asyncio.Event()
    api = Api(
        store=store,
        commits=GroupCommit(store),
        deps=deps,
        links=links,
        counters=RequestCounters(),
        changes=changes,
        waiters=Waiters(store, changes, closing),
        closing=closing,
        statuses=StatusCache(
            for_pages, links, deps.numbers, clock, lambda: read_machine(home, clock())
        ),
        leaves=LeafCache(deps.blobs),
        blob_keys=BlobKeys(deps.blobs),
        peers=Peers(clock),
        clock_watch=ClockWatch(partial(note_clock, home.clock_file)),
        packages=Downloads(home.downloads),
        models=ModelFiles(home.models),
        releases=config.releases,
        seconds_to_wait=AddressLimit(
            config.requests_per_second, config.request_burst, time.monotonic
        ).take,
    )
    errors = Middleware(ErrorMiddleware, counters=api.counters, seconds_to_wait=api.seconds_to_wait)
    admins = Admins(api, home)
    routes = [
        *api_routes(api, public_metrics=not config.metrics.port),
        *page_routes(api),
        *admin_routes(admins),
        *operator_routes(admins),
        static_files(),
    ]
    middleware = [errors]
    if config.proxies:
        middleware.insert(0, Middleware(ProxyHeadersMiddleware, trusted_hosts=list(config.proxies)))
    app = Starlette(routes=routes, middleware=middleware)
    app.state.home = home.path
    return WebApp(
        app,
        api,
        (store, for_pages, for_metrics),
        config.connections,
        config.connections_per_address,
        ProjectMetrics(for_metrics, home, links, deps.numbers, clock),
        home,
    )


def shifted_clock(offset_seconds: float) -> Callable[[], float]:
    """Return the machine's clock, shifted for trials."""
    return lambda: time.time() + offset_seconds  # noqa: TID251 - the clock that everything else is given
