"""nginx and Caddy in front of a coordinator, by the files that operators get; systemd's unit.

Only addresses and certificates are changed in the files, since a test has neither port 443 nor a
name; what a proxy does with requests is as shipped.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pleb_coordinator.home.config import CoordinatorConfig
from tests.integration.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.served import Served

pytestmark = pytest.mark.system

FILES = Path(__file__).parents[2] / "installers" / "coordinator"
SECONDS = 30.0
PROXIES = ["nginx", "caddy"]
BASES = ["", "/pleb"]


@dataclass
class Front:
    """A proxy, and the coordinator behind it."""

    behind: Served
    url: str

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self.send("GET", path, b"", **headers)

    def send(self, method: str, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body or None, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def nginx(folder: Path, port: int, behind: int, base: str) -> list[str]:
    text = (FILES / "nginx.conf").read_text()
    text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port};")
    text = re.sub(r"\n *ssl_certificate\S* .*;", "", text)
    if base:
        text = text.replace("location / {", f"location {base}/ {{")
        text = text.replace("7532;", "7532/;")
    site = text.replace("127.0.0.1:7532", f"127.0.0.1:{behind}")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"pid {folder}/pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"http {{\n{paths}access_log off;\n{site}\n}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, behind: int, base: str) -> list[str]:
    text = (FILES / "Caddyfile").read_text()
    text = text.replace("pleb.example.org {", f"http://127.0.0.1:{port} {{")
    if base:
        inner = re.compile(r"(\treverse_proxy .*?\n\t\})", re.DOTALL)
        text = inner.sub(rf"\thandle_path {base}/* {{\n\1\n\t}}", text)
    options = f"{{\n\tadmin off\n\tstorage file_system {folder}\n}}\n"
    (folder / "Caddyfile").write_text(
        options + text.replace("127.0.0.1:7532", f"127.0.0.1:{behind}")
    )
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def fronted(tmp_path: Path, proxy: str, base: str, **settings: Any) -> Iterator[Front]:
    config = CoordinatorConfig(proxies=("127.0.0.1",), **settings)
    folder = tmp_path / "proxy"
    (tmp_path / "home").mkdir()
    folder.mkdir()
    folder.chmod(0o777)
    with served(tmp_path / "home", config) as behind:
        port = free_port()
        make = nginx if proxy == "nginx" else caddy
        command = make(folder, port, behind.port, base)
        with (folder / "log").open("wb") as log:
            environment = {"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin:/bin"}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            front = Front(behind, f"http://127.0.0.1:{port}{base}")
            end = time.monotonic() + SECONDS
            while True:
                try:
                    assert front.get("/health") == (200, b"ok\n"), (folder / "log").read_text()
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < end, (folder / "log").read_text()
                    time.sleep(0.05)
            yield front
        finally:
            process.kill()  # it would wait for those who watch a live page
            process.wait(SECONDS)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("proxy", PROXIES)
def test_pages_live_pages_and_large_metadata_pass(tmp_path, proxy, base):
    with fronted(tmp_path, proxy, base) as front:
        status, page = front.get("/projects/tiny")
        assert status == 200
        assert b"Tiny" in page
        assert json.loads(front.get("/projects/tiny/status")[1])["project"] == "tiny"

        with urllib.request.urlopen(f"{front.url}/projects/tiny/events", timeout=SECONDS) as live:
            assert live.headers["Content-Type"].startswith("text/event-stream")
            first = live.readline() + live.readline()
            assert b"data" in first or b"event" in first, "it comes while the answer goes on"

        body = b"{" + b"x" * 3_500_000
        status, answer = front.send("POST", "/publish", body)
        assert status == 400
        assert b"malformed" in answer, "the coordinator has read all of it"


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_client_chooses_no_address_by_what_it_claims(tmp_path, proxy):
    """The true address here is loopback, which has no limit; the claimed one would have."""
    with fronted(tmp_path, proxy, "", requests_per_second=0.001, request_burst=10) as front:
        claim = {"X_Forwarded_For": "198.51.100.7"}
        found = [front.get("/projects/none/metadata", **claim)[0] for _ in range(30)]
        assert found == [404] * 30
        proxied = Front(front.behind, f"http://127.0.0.1:{front.behind.port}")
        found = [proxied.get("/projects/none/metadata", **claim)[0] for _ in range(30)]
        assert found[:10] == [404] * 10
        assert found[-1] == 429, "what the proxy itself says is believed"


def test_the_unit_is_one_that_systemd_takes():
    unit = FILES / "pleb-coordinator.service"
    found = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in found.stderr.splitlines() if "not executable" not in line]
    assert not [line for line in complaints if "pleb-coordinator.service" in line]
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(unit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(re.findall(r"level for \S+: ([0-9.]+)", exposed.stdout)[0]) < 2.5
