"""Rules on topics of a real MQTT broker (Debian's mosquitto)."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager

import pytest

from tests.e2e.world import wait_until
from tests.signal_world import now, running_agentd

pytestmark = pytest.mark.system

USER, PASSWORD = "pleb", "of-the-broker"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def broker(folder, port):
    """mosquitto with one user."""
    passwords = folder / "passwords"
    passwords.touch(0o600)
    subprocess.run(
        ["mosquitto_passwd", "-b", str(passwords), USER, PASSWORD], check=True, capture_output=True
    )
    settings = folder / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
    )
    process = subprocess.Popen(["mosquitto", "-c", str(settings)], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", port)) == 0

    wait_until("the broker to listen", listens, seconds=30)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def publish(port: int, topic: str, value: str, *, retained: bool = False) -> None:
    """Send a message by the client of paho, which is what the agent has, too."""
    from paho.mqtt import publish as paho

    paho.single(
        topic, value, hostname="127.0.0.1", port=port, retain=retained,
        auth={"username": USER, "password": PASSWORD},
    )  # fmt: skip


def test_messages_stop_and_resume_work_and_a_broker_that_is_gone_counts_as_no(tmp_path):
    port = free_port()
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    with running_agentd(tmp_path) as agentd:
        with broker(tmp_path, port):
            publish(port, "solar/surplus", '{"watts": 2000}', retained=True)
            agentd.cli(
                *("rules", "signal", "Surplus", f"mqtt://{USER}@127.0.0.1:{port}/solar/surplus"),
                *("--pointer", "/watts", "--unit", "W", "--token-file", password),
            )
            agentd.cli("rules", "add", "Surplus", "above", "1500")
            agentd.wait_until_read("ready")
            assert "is at 2000 W" in agentd.cli("rules", "read", "Surplus").stdout
            reactions = []
            for value, rule, words in (
                ('{"watts": 100}', "signals", "Surplus is at 100 W; work resumes above 1575 W."),
                ('{"watts": 1800}', "ready", ""),
                ("nonsense", "signals", "is no JSON"),
                ('{"watts": 1800}', "ready", ""),
            ):
                since = now()
                publish(port, "solar/surplus", value)
                reactions.append(agentd.wait_for(rule, since, words))
            print("reactions to MQTT:", reactions)
            assert max(reactions) < 5
            since = now()
        agentd.wait_for("signals", since, "does not answer")
        with broker(tmp_path, port):
            since = now()

            def is_back() -> bool:
                publish(port, "solar/surplus", '{"watts": 1800}')
                return not agentd.rules()["signals"][0]["problem"]

            wait_until("the agent to come back", is_back, seconds=90)
            agentd.wait_for("ready", since)
