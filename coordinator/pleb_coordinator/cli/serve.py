"""`serve`: the HTTP process, a background process and perhaps an agent. `work`: one more."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pleb_coordinator.admin.access import Listening, now, open_store, reachable_host
from pleb_coordinator.admin.projects import statuses
from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.cli.alerts import Alerter
from pleb_coordinator.cli.desk import local_desk
from pleb_coordinator.cli.own_agent import Attacher, agent_command
from pleb_coordinator.cli.setup import Places, make_home
from pleb_coordinator.cli.tls import certificate_pin
from pleb_coordinator.home.config import check_url, read_config
from pleb_coordinator.steps import deps_of
from pleb_shared.errors import InputError
from pleb_shared.protocol.ids import digest_of
from pleb_system.durable import write_durably
from pleb_system.supervisor import Child, Supervisor, stop_event

if TYPE_CHECKING:
    import argparse

    from pleb_coordinator.home.config import CoordinatorConfig
    from pleb_coordinator.home.layout import Home
    from pleb_system.command_line import Output

__all__ = ["COMMANDS"]

_BIND_SECONDS: Final = 10.0
"""How long the children of a server that was killed may keep its port."""
_BACKLOG: Final = 2048


def serve(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Run the coordinator until SIGTERM or SIGINT; an empty home is set up first."""
    given = {name: getattr(options, name) for name in ("host", "port", "url", "tls")}
    given = {name: value for name, value in given.items() if value is not None}
    config = dataclasses.replace(make_home(home, places=Places.given(options)), **given)
    check_url("--url", config.url)
    stop = stop_event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(home.hold())
        killed = home.listening_file.exists()
        listening = stack.enter_context(open_socket(config.host, config.port, patient=killed))
        links = _links(home, config, listening.getsockname()[1])
        store = open_store(home, output.progress, stop)
        children = _children(home, options, links, listening.fileno())
        deps = deps_of(home, lambda: now() + options.clock_offset, config)
        supervisor = Supervisor(children, stop, output.progress)
        attacher = Attacher(home, store, deps, links, output.progress)
        if config.alerts.command or config.alerts.webhook:
            alerter = Alerter(
                config.alerts, lambda: statuses(local_desk(home, output)), output.progress
            )
            supervisor.each_round.append(alerter.look)
        if options.with_agent:
            supervisor.each_round.append(attacher.look)
        try:
            supervisor.start()
            _announce(home, links, children, output)
            supervisor.watch()
        finally:
            attacher.close()
            home.listening_file.unlink(missing_ok=True)
            store.close()
    return 0


def work(home: Home, options: argparse.Namespace, output: Output) -> int:
    """Run one more background process for a home that `serve` runs on."""
    stop = stop_event()
    # says what is wrong before a process is started
    open_store(home, output.progress, stop).close()
    name = f"work-{os.getpid()}@{socket.gethostname()}"
    child = _jobs(home, options, name, options.metrics_port)
    supervisor = Supervisor([child], stop, output.progress)
    supervisor.start()
    output.result({"pid": os.getpid(), "jobs_pid": child.pid}, ["Running; stop it with Ctrl+C."])
    supervisor.watch()
    return 0


def _links(home: Home, config: CoordinatorConfig, port: int) -> LinkBase:
    host = reachable_host(config.host)
    pin = None
    if config.tls == "self-signed":
        pin = certificate_pin(home.tls, host.strip("[]"), time.time())  # noqa: TID251
    scheme = "https" if pin else "http"
    return LinkBase(config.url.rstrip("/") or f"{scheme}://{host}:{port}", pin)


def _children(
    home: Home, options: argparse.Namespace, links: LinkBase, descriptor: int
) -> list[Child]:
    command = [
        sys.executable,
        *("-m", "pleb_coordinator.web_app", "--home", str(home.path)),
        *("--socket", str(descriptor), "--url", links.url),
        *("--clock-offset", str(options.clock_offset)),
        *(["--pin", links.certificate] if links.certificate else []),
        *(["--debug"] if options.debug else []),
    ]
    metrics_port = read_config(home.config_file).metrics.port
    background = _jobs(home, options, _own_name(home), metrics_port and metrics_port + 1)
    children = [Child("HTTP", command, pass_fds=(descriptor,), says_ready=True), background]
    if options.with_agent:
        words = ("start", "--headless", "--preset", "full", "--priority", "low")
        command = agent_command(home, *words, "--threads", str(options.agent_threads))
        children.append(Child("agent", command, quiet=True))
    return children


def _own_name(home: Home) -> str:
    """Return a name that no other `serve` has, and that this one has again after it was killed."""
    place = digest_of(str(home.path.resolve()).encode())[:8]
    return f"serve-{place}@{socket.gethostname()}"


def _jobs(home: Home, options: argparse.Namespace, name: str, metrics_port: int) -> Child:
    """Return a background process; restarted under its name, it releases what it had claimed."""
    command = [
        sys.executable,
        *("-m", "pleb_coordinator.jobs_app", "--home", str(home.path), "--name", name),
        *("--clock-offset", str(options.clock_offset), "--workers", str(options.workers)),
        *("--metrics-port", str(metrics_port)),
        *(["--debug"] if options.debug else []),
    ]
    return Child("background", command, says_ready=True)


def _announce(home: Home, links: LinkBase, children: list[Child], output: Output) -> None:
    """Print the address, and save it for the other commands."""
    listening = Listening(links.url, links.certificate, os.getpid())
    write_durably(home.listening_file, msgspec.json.encode(listening))
    pids = {child.name: child.pid for child in children}
    value: dict[str, Any] = {
        "url": links.url,
        "pid": os.getpid(),
        "http_pid": pids["HTTP"],
        "jobs_pid": pids["background"],
        "agent_pid": pids.get("agent"),
        "certificate": links.certificate,
    }
    lines = [f"Listening on {links.url}", f"Home: {home.path}. Stop it with Ctrl+C."]
    if links.certificate:
        lines.append(f"Researchers publish to {links.url}#{links.certificate}")
    output.result(value, lines)


def open_socket(host: str, port: int, *, patient: bool = False) -> socket.socket:
    """Return a listening socket; children inherit it, so no caller is lost when one restarts.

    `patient`: a server was killed here, whose children may keep the port for a moment.

    Raises:
        InputError: the address is not this machine's, or another program listens there.
    """
    end = time.monotonic() + (_BIND_SECONDS if patient else 0)
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                message = f"Cannot listen on {host}:{port} ({error.strerror or error})."
                raise InputError(f"{message} Give another --host or --port.") from error
            if time.monotonic() >= end:
                message = f"Port {port} is in use: give another --port, or 0 for any free one."
                raise InputError(message) from error
            time.sleep(0.1)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # so that "::" takes IPv4 everywhere
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except OSError:
        found.close()
        raise
    found.set_inheritable(True)
    return found


COMMANDS: Final = {
    "serve": serve,
    "work": work,
}
