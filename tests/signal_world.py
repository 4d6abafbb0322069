"""A real agentd without projects, whose rules a test sets, and small servers of signals."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tests.e2e.world import ONE_THREAD, run_cli, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REACTION_SECONDS = 5.0
LATE_SECONDS = 10.0
"""Beyond the reaction, for a machine whose cores others use."""


class Answers(http.server.ThreadingHTTPServer):
    """Answers GET with JSON by path. `token`: what every request must carry; empty: nothing."""

    def __init__(self, port: int = 0, token: str = "") -> None:
        self.json: dict[str, Any] = {}
        self.token = token
        super().__init__(("127.0.0.1", port), _Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """The client went away in the middle: it was stopped."""


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        allowed = self.headers.get("authorization", "") == f"Bearer {self.server.token}"
        found = self.server.json.get(self.path)
        status = 200 if found is not None else 404
        if self.server.token and not allowed:
            status, found = 401, None
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(**options: Any) -> Iterator[Answers]:
    server = Answers(**options)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Agentd:
    """A process with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "pleb_agent.cli", "start", "--headless"]
        with (self.home.parent / "agentd.out").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--preset", "full", "--home", str(self.home)],
                stdout=log, stderr=log, env=os.environ | ONE_THREAD,
            )  # fmt: skip
        wait_until("agentd to listen", (self.home / "agentd.json").exists)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(30) == 0

    def cli(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_cli("pleb_agent", *words, "--home", self.home, check=check)

    def api(self, method: str, name: str, token: str = "", **body: Any) -> httpx.Response:
        control = json.loads((self.home / "agentd.json").read_bytes())
        return httpx.request(
            method,
            f"http://127.0.0.1:{control['port']}/api/{name}",
            headers={"authorization": f"Bearer {token or control['token']}"},
            json=body if method == "POST" else None,
            timeout=60,
            trust_env=False,
        )

    def rules(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", "rules").json()
        return found

    def decisions(self) -> list[dict[str, Any]]:
        """What the policy has decided, as the log has it."""
        lines = (self.home / "logs/agentd.jsonl").read_text("utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        return [one for one in found if one["event"] in {"run", "pause", "stop"}]

    def wait_until_read(self, rule: str) -> None:
        """Wait until every signal is known and this rule decides, since whenever."""

        def settled() -> bool:
            signals = self.rules()["signals"]
            known = all(one["value"] is not None for one in signals)
            return known and self.decisions()[-1]["rule"] == rule

        wait_until(f"{rule} by signals that are known", settled, seconds=30)

    def wait_for(self, rule: str, since: float, words: str = "") -> float:
        """Return how long after `since` the policy decided by this rule; fail when that is late."""

        def decided() -> float:
            for one in self.decisions():
                if one["rule"] == rule and one["time"] >= since and words in one["reason"]:
                    return max(0.001, float(one["time"]) - since)
            return 0.0

        seconds = REACTION_SECONDS + LATE_SECONDS
        found: float = wait_until(f"the rule {rule}", decided, seconds=seconds)
        return found


@contextmanager
def running_agentd(folder: Path) -> Iterator[Agentd]:
    agentd = Agentd(folder / "agent")
    agentd.home.mkdir()
    agentd.start()
    try:
        yield agentd
    finally:
        agentd.stop()


def now() -> float:
    return time.time()
