"""Networks of namespaces: hosts on a switch, and a coordinator behind a line of a given speed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["COORDINATOR", "Network", "Process", "network", "require_namespaces"]

COORDINATOR: Final = "10.77.0.1"
PORT: Final = 7532
_ROOT: Final = Path(__file__).parent.parent


def require_namespaces() -> None:
    """Return if this process may make namespaces. Raises `SystemExit` with what to do."""
    try:
        _run("ip", "netns", "list")
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit("This needs root and iproute2: apt-get install iproute2.") from error
    if os.geteuid() != 0:
        raise SystemExit("This needs root, for network namespaces.")


class Process:
    """A program in a namespace that speaks lines of JSON."""

    def __init__(self, namespace: str, *command: str) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.answer()

    def tell(self, line: str) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Network:
    """A switch with a coordinator and hosts, each in a namespace of its own."""

    def __init__(self, name: str, hosts: int, coordinator_mbit: float, stack: ExitStack) -> None:
        self._stack = stack
        self._switch = f"{name}-s"
        self.coordinator = f"{name}-c"
        self.hosts = [f"{name}-{number}" for number in range(hosts)]
        self._add(self._switch)
        self._in(self._switch, "link", "add", "br0", "type", "bridge")
        self._in(self._switch, "link", "set", "br0", "up")
        # Beacons reach every port, as on a plain switch; snooping would wait for a querier.
        _run(
            "ip",
            "netns",
            "exec",
            self._switch,
            "sh",
            "-c",
            "echo 0 > /sys/class/net/br0/bridge/multicast_snooping || true",
        )
        for number, namespace in enumerate([self.coordinator, *self.hosts]):
            self._add(namespace)
            port = f"p{number}"
            self._in(
                self._switch, *f"link add {port} type veth peer name eth0 netns {namespace}".split()
            )
            self._in(self._switch, *f"link set {port} master br0 up".split())
            self._in(namespace, *f"addr add 10.77.0.{number + 1}/24 dev eth0".split())
            self._in(namespace, *["link", "set", "eth0", "up"])
            self._in(namespace, *["link", "set", "lo", "up"])
            self._in(namespace, *["route", "add", "default", "dev", "eth0"])
        rate = f"tbf rate {coordinator_mbit}mbit burst 256kb latency 200ms"
        _run("tc", "-n", self.coordinator, *f"qdisc add dev eth0 root {rate}".split())

    def _add(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._stack.callback(_run, "ip", "netns", "del", namespace)

    def _in(self, namespace: str, *command: str) -> None:
        _run("ip", "-n", namespace, *command)

    def folder(self, home: Path) -> str:
        """Return a new folder in `home`; it goes with the network, before the next one fills up."""
        made = tempfile.mkdtemp(dir=home, prefix="host-")
        self._stack.callback(shutil.rmtree, made)
        return made

    def start(self, namespace: str, *command: str) -> Process:
        """Start a program; it ends with the network."""
        process = Process(namespace, *command)
        self._stack.callback(process.close)
        return process


@contextmanager
def network(hosts: int, coordinator_mbit: float) -> Iterator[Network]:
    """Make a network; it goes with its processes."""
    with ExitStack() as stack:
        yield Network(f"pleb{os.getpid()}", hosts, coordinator_mbit, stack)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def all_answers(processes: Sequence[Process]) -> list[dict[str, Any]]:
    """Return the next answer of each."""
    return [process.answer() for process in processes]
