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
    from collections.abc import Iterator

__all__ = [
    "COORDINATOR",
    "Households",
    "Internet",
    "Namespaces",
    "Network",
    "Process",
    "households",
    "internet",
    "network",
    "require_namespaces",
]

COORDINATOR: Final = "10.77.0.1"
PORT: Final = 7532
_ROOT: Final = Path(__file__).parent.parent


def require_namespaces() -> None:
    """Return if this process may make namespaces. Raises `SystemExit` with what to do."""
    try:
        _run("ip", "netns", "list")
        _run("nft", "--version")
    except (OSError, subprocess.CalledProcessError) as error:
        message = "This needs root: apt-get install iproute2 nftables."
        raise SystemExit(message) from error
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


class Namespaces:
    """Network namespaces that go with `stack`, with what runs in them and the files of that."""

    coordinator: str
    """The namespace of the coordinator."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def add(self, namespace: str) -> None:
        """Make a namespace."""
        _run("ip", "netns", "add", namespace)
        self._stack.callback(_run, "ip", "netns", "del", namespace)
        self.link(namespace, "link set lo up")

    def link(self, namespace: str, command: str) -> None:
        """Run `ip` in a namespace."""
        _run("ip", "-n", namespace, *command.split())

    def switch(self, namespace: str) -> None:
        """Make a switch in a namespace; others are plugged in by `plug`."""
        self.link(namespace, "link add br0 type bridge")
        self.link(namespace, "link set br0 up")
        # Beacons reach every port, as on a plain switch; snooping would wait for a querier.
        setting = "/sys/class/net/br0/bridge/multicast_snooping"
        _run("ip", "netns", "exec", namespace, "sh", "-c", f"echo 0 > {setting} || true")

    def plug(self, namespace: str, device: str, switch: str, port: str, address: str) -> None:
        """Connect a namespace to a switch."""
        self.link(switch, f"link add {port} type veth peer name {device} netns {namespace}")
        self.link(switch, f"link set {port} master br0 up")
        self.link(namespace, f"addr add {address} dev {device}")
        self.link(namespace, f"link set {device} up")

    def limit(self, namespace: str, device: str, mbit: float) -> None:
        """Let so much leave by a device, with a queue of a fifth of a second."""
        rate = f"tbf rate {mbit}mbit burst 256kb latency 200ms"
        _run("tc", "-n", namespace, *f"qdisc add dev {device} root {rate}".split())

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


class Network(Namespaces):
    """A switch with a coordinator and hosts, each in a namespace of its own."""

    def __init__(self, name: str, hosts: int, coordinator_mbit: float, stack: ExitStack) -> None:
        super().__init__(stack)
        switch, self.coordinator = f"{name}-s", f"{name}-c"
        self.hosts = [f"{name}-{number}" for number in range(hosts)]
        self.add(switch)
        self.switch(switch)
        for number, namespace in enumerate([self.coordinator, *self.hosts]):
            self.add(namespace)
            self.plug(namespace, "eth0", switch, f"p{number}", f"{self.address(number - 1)}/24")
            self.link(namespace, "route add default dev eth0")
        self.limit(self.coordinator, "eth0", coordinator_mbit)

    @staticmethod
    def address(host: int) -> str:
        """Return the address of the host with that number; -1: of the coordinator."""
        return f"10.77.0.{host + 2}"


class Households(Namespaces):
    """A coordinator on the internet, and LANs behind NAT and lines that are slower upwards."""

    def __init__(
        self, name: str, lans: int, hosts: int, mbit: tuple[float, float], stack: ExitStack
    ) -> None:
        super().__init__(stack)
        internet, self.coordinator = f"{name}-i", f"{name}-c"
        down, up = mbit
        self.lans = [[f"{name}-{lan}-{host}" for host in range(hosts)] for lan in range(lans)]
        self.add(internet)
        self.switch(internet)
        self.add(self.coordinator)
        self.plug(self.coordinator, "eth0", internet, "pc", f"{COORDINATOR}/24")
        for lan, members in enumerate(self.lans):
            router, outside, inside = f"{name}-r{lan}", f"10.77.0.{10 + lan}", f"10.78.{lan}"
            self.add(router)
            self.switch(router)
            self.link(router, f"addr add {inside}.1/24 dev br0")
            self.plug(router, "wan", internet, f"r{lan}", f"{outside}/24")
            _translate(router, "wan")
            self.limit(router, "wan", up)
            self.limit(internet, f"r{lan}", down)
            for host, namespace in enumerate(members):
                self.add(namespace)
                self.plug(namespace, "eth0", router, f"p{host}", f"{inside}.{10 + host}/24")
                self.link(namespace, f"route add default via {inside}.1")


class Internet(Namespaces):
    """A coordinator and hosts at public addresses, and others behind NAT, each at a line.

    The addresses are nobody's: 192.88.99.0/24 was given up (RFC 7526), 2d00::/8 never given out.
    Nothing leads out of the namespaces.
    """

    coordinator4, coordinator6 = "192.88.99.1", "[2d00:1::1]"

    def __init__(
        self,
        name: str,
        hosts: tuple[int, int, int],
        coordinator_mbit: float,
        mbit: tuple[float, float],
        stack: ExitStack,
    ) -> None:
        """Make them. `hosts`: reached by IPv4, by IPv6, not at all; `mbit`: down and up.

        Those with IPv6 have IPv4, too, which lets nobody in.
        """
        super().__init__(stack)
        self._down, self._up = mbit
        self._internet, self.coordinator = f"{name}-i", f"{name}-c"
        self.add(self._internet)
        self.switch(self._internet)
        self.add(self.coordinator)
        self.plug(self.coordinator, "eth0", self._internet, "pc", f"{self.coordinator4}/24")
        self.link(self.coordinator, "addr add 2d00:1::1/16 dev eth0 nodad")
        self.limit(self.coordinator, "eth0", coordinator_mbit)
        self.hosts: list[tuple[str, str, str]] = []
        """Namespace, its public address, and the coordinator's as it has it."""
        kinds = [kind for kind, count in zip("46n", hosts, strict=True) for _ in range(count)]
        for number, kind in enumerate(kinds, 2):
            host, outside = f"{name}-{number}", f"192.88.99.{number}"
            self.add(host)
            if kind == "n":
                self._behind_nat(host, f"{name}-r{number}", number)
            else:
                self._at_line(host, number, outside)
            if kind == "6":
                outside = f"2d00:{number:x}::1"
                self.link(host, f"addr add {outside}/16 dev eth0 nodad")
                self._lock_out(host)
            self.hosts.append(
                (host, outside, self.coordinator6 if kind == "6" else self.coordinator4)
            )

    def _at_line(self, namespace: str, number: int, address: str) -> None:
        port = f"p{number}"
        self.plug(namespace, "eth0", self._internet, port, f"{address}/24")
        self.limit(namespace, "eth0", self._up)
        self.limit(self._internet, port, self._down)

    def _behind_nat(self, host: str, router: str, number: int) -> None:
        self.add(router)
        self._at_line(router, number, f"192.88.99.{number}")
        self.link(router, f"link add lan type veth peer name eth0 netns {host}")
        self.link(router, "addr add 10.9.0.1/24 dev lan")
        self.link(router, "link set lan up")
        self.link(host, "addr add 10.9.0.2/24 dev eth0")
        self.link(host, "link set eth0 up")
        self.link(host, "route add default via 10.9.0.1")
        _translate(router, "eth0")

    def _lock_out(self, namespace: str) -> None:
        """Let only answers in by IPv4."""
        _nft(
            namespace,
            "add table ip gate",
            "add chain ip gate in { type filter hook input priority 0 ; policy drop ; }",
            "add rule ip gate in ct state established,related accept",
        )


@contextmanager
def internet(
    hosts: tuple[int, int, int], coordinator_mbit: float, mbit: tuple[float, float]
) -> Iterator[Internet]:
    """Make a piece of internet: hosts reached by IPv4, by IPv6, and behind NAT."""
    with ExitStack() as stack:
        yield Internet(f"pleb{os.getpid()}", hosts, coordinator_mbit, mbit, stack)


@contextmanager
def network(hosts: int, coordinator_mbit: float) -> Iterator[Network]:
    """Make a network; it goes with its processes."""
    with ExitStack() as stack:
        yield Network(f"pleb{os.getpid()}", hosts, coordinator_mbit, stack)


@contextmanager
def households(lans: int, hosts: int, mbit: tuple[float, float]) -> Iterator[Households]:
    """Make LANs behind lines of so many Mbit/s down and up; they go with their processes."""
    with ExitStack() as stack:
        yield Households(f"pleb{os.getpid()}", lans, hosts, mbit, stack)


def _translate(router: str, outside: str) -> None:
    """Let a router pass on what comes from inside, under its own address (NAT)."""
    setting = "/proc/sys/net/ipv4/ip_forward"
    _run("ip", "netns", "exec", router, "sh", "-c", f"echo 1 > {setting}")
    _nft(
        router,
        "add table ip nat",
        "add chain ip nat out { type nat hook postrouting priority 100 ; }",
        f"add rule ip nat out oifname {outside} masquerade",
    )


def _nft(namespace: str, *commands: str) -> None:
    for words in commands:
        _run("ip", "netns", "exec", namespace, "nft", words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
