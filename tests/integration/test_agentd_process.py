"""agentd as a process of its own: commands, control API, lock, signals, the real worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import psutil
import pytest

from pleb_agent.cli import main
from pleb_agent.control.live_preferences import encode
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.sentence import say
from pleb_agent.journal.journal import Journal
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.project import Shard, ShardList
from pleb_shared.protocol.unit import Blob
from pleb_shared.tensors.format import training_format
from tests.integration.agent_home import CLOCK, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, delta_of, serving
from tests.unit.worker.sample_job import sample

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "PYTHONPATH": ":".join(path for path in sys.path if path),
    "PATH": "/usr/bin:/bin",
    "OMP_NUM_THREADS": "1",
}


def real_project(coordinator):
    """Publish a project that the real worker can train."""
    project = sample()

    def add(data):
        return Blob(digest=coordinator.add_blob(data).digest, size=len(data))

    shards = [add(data) for data in project.shards]
    listed = [Shard.of(blob, 200) for blob in shards]
    listing = add(strict_json.encode(ShardList(train=listed, holdout=listed[:1])))
    metadata = project.metadata
    add(project.base)
    coordinator.publish(
        model=_replace(metadata.model, initial=add(project.initial)),
        training_graph=add(project.training_graph),
        evaluation_graph=add(project.evaluation_graph),
        data=_replace(metadata.data, shards=listing),
        training=metadata.training,
        codec=metadata.codec,
        calibration=metadata.calibration,
    )


def _replace(struct, **changes):
    import msgspec

    return msgspec.structs.replace(struct, **changes)


async def command(home, *words, code=0):
    """Run `pleb-agent WORDS` and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pleb_agent.cli", words[0], "--home", str(home), *words[1:]),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, output.decode()
    return output.decode()


@asynccontextmanager
async def agentd(home, *words):
    preferences = home / "preferences.json"
    if not preferences.exists():
        preferences.parent.mkdir(parents=True, exist_ok=True)
        preferences.write_bytes(encode(Preferences(nice=False)))  # others use this machine too
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pleb_agent.cli", "start", "--headless", "--preset", "full"),
        "--json",
        *("--home", str(home), *words),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert first["pid"] == process.pid
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_units_are_trained_by_the_real_worker(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        real_project(coordinator)
        coordinator.units.append(coordinator.calibration())
        coordinator.plan(6)
        async with serving(coordinator) as url:
            await command(tmp_path, "attach", coordinator.link(url), "--name", "me")
            async with agentd(tmp_path, "--units", "7", "--threads", "1") as process:
                assert await asyncio.wait_for(process.wait(), 60) == 0
        assert delivered(coordinator) == list(range(1, 8))
        metadata = coordinator.metadata
        for report in coordinator.results()[1:]:
            delta = coordinator.given[report.assignment].delta
            encoding = training_format(metadata)
            assert encoding.decode(encoding.unpack(delta))
            assert delta_of(report).loss_last < delta_of(report).loss_first
        runtime = coordinator.requests[0].runtime
        assert (runtime.threads, runtime.device) == (1, "cpu")

    asyncio.run(story())


def test_an_agent_of_low_priority_is_low_itself_and_its_worker_with_it(tmp_path):
    async def story():
        (tmp_path / "preferences.json").write_bytes(encode(Preferences(nice=True)))
        coordinator = FakeCoordinator(CLOCK)
        real_project(coordinator)
        async with serving(coordinator) as url:
            await command(tmp_path, "attach", coordinator.link(url), "--name", "me")
            words = ("--priority", "low", "--threads", "1")
            async with agentd(tmp_path, *words) as process:
                coordinator.plan(1)
                coordinator.arrived.set()
                await until(lambda: delivered(coordinator) == [1], 40)
                agent = psutil.Process(process.pid)
                family = [agent, *agent.children(recursive=True)]
                workers = [p for p in family if "pleb_agent.worker" in " ".join(p.cmdline())]
                assert workers
                assert {p.nice() for p in (agent, *workers)} == {10}
                policies = {os.sched_getscheduler(p.pid) for p in workers}
                assert policies == {os.SCHED_OTHER}

    asyncio.run(story())


def test_everything_can_be_told_while_it_runs(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        real_project(coordinator)
        async with serving(coordinator) as url, agentd(tmp_path, "--threads", "1") as process:
            assert "No project" in await command(tmp_path, "status")
            said = await command(tmp_path, "attach", coordinator.link(url), "--json")
            assert json.loads(said)["project"] == "words"
            coordinator.plan(1)
            coordinator.arrived.set()
            await until(lambda: delivered(coordinator) == [1], 30)
            view = json.loads(await command(tmp_path, "status", "--json"))
            assert view["running"]
            assert view["pid"] == process.pid
            assert view["projects"][0]["counters"]["units_done"] == 1
            assert "words" in await command(tmp_path, "projects")
            assert "paused" in await command(tmp_path, "pause", "--for", "1h")
            assert "Paused by you for 60 more min" in await command(tmp_path, "status")
            await command(tmp_path, "resume")
            assert "Left words" in await command(tmp_path, "detach", "words")
            assert "No project" in await command(tmp_path, "projects")
            assert "no project" in (await command(tmp_path, "detach", "words", code=2)).lower()
            told = await command(tmp_path, "logs", "--lines", "1000", "--json")
            assert '"event": "issue"' in told
            await command(tmp_path, "stop")
            assert await asyncio.wait_for(process.wait(), 10) == 0
            assert not (tmp_path / "agentd.json").exists()

    asyncio.run(story())


def test_one_agentd_for_each_home(tmp_path):
    async def story():
        async with agentd(tmp_path):
            said = await command(tmp_path, "start", "--headless", code=6)
            assert "Another agent" in said

    asyncio.run(story())


def test_sigterm_ends_it_cleanly_and_kill_leaves_no_lock(tmp_path):
    async def story():
        async with agentd(tmp_path) as process:
            process.kill()
            await process.wait()
        assert "not running" in await command(tmp_path, "stop", code=7)
        async with agentd(tmp_path) as process:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5) == 0

    asyncio.run(story())


def test_the_control_api_answers_only_its_owner(tmp_path):
    async def story():
        async with agentd(tmp_path):
            place = json.loads((tmp_path / "agentd.json").read_text())
            assert stat.S_IMODE((tmp_path / "agentd.json").stat().st_mode) == 0o600
            own = {"authorization": f"Bearer {place['token']}"}
            base = f"http://127.0.0.1:{place['port']}"
            async with httpx.AsyncClient(base_url=base, trust_env=False) as http:
                for headers, status in [
                    (own, 200),
                    (own | {"origin": base}, 200),
                    ({}, 403),
                    ({"authorization": "Bearer wrong"}, 403),
                    (own | {"host": "evil.example"}, 403),
                    (own | {"origin": "https://evil.example"}, 403),
                    (own | {"origin": "null"}, 403),
                ]:
                    got = await http.get("/api/status", headers=headers)
                    assert got.status_code == status, headers
                bad = await http.post("/api/pause", headers=own, content=b'{"seconds": -1}')
                assert bad.status_code == 400
                assert "not understood" in bad.json()["message"]

    asyncio.run(story())


def test_agentd_never_imports_torch_or_numpy(tmp_path):
    code = (
        "import sys, pleb_agent.app.agentd, pleb_agent.cli.start, pleb_agent.cli.commands, "
        "pleb_agent.cli.doctor, pleb_agent.doctor.checks\n"
        "print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_agentd_loads_no_package_that_only_others_use():
    code = (
        "import sys; from pleb_agent.cli.main import _command\n"
        "_command('start'); import httpx; httpx.Client(verify=False)\n"
        "print([name for name in ('pygments', 'rich', 'trio') if sys.modules.get(name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_a_command_starts_without_the_network_stack():
    code = (
        "import sys; from pleb_agent.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'httpx', 'starlette', 'uvicorn', 'asyncio', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip().endswith("[]")


def test_private_keys_are_for_the_user_alone(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        async with serving(coordinator) as url:
            await command(tmp_path, "attach", coordinator.link(url))
            keys = list((tmp_path / "keys").iterdir())
            assert len(keys) == 2
            assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
            before = {key.read_text() for key in keys}
            await command(tmp_path, "attach", coordinator.link(url))
            assert {key.read_text() for key in (tmp_path / "keys").iterdir()} == before
            keys[0].chmod(0o644)
            said = await command(tmp_path, "doctor", code=8)
            assert f"FAULT keys: Other users can read {keys[0].name}" in said
            assert f"ok    words: {url} answers" in said
            assert "ok    device: CPU with " in said

    asyncio.run(story())


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["attach", "https://example.org"], 2, "is not an attach link"),
        (["attach", f"http://127.0.0.1:1/join/words#{'0' * 64}"], 5, "cannot be reached"),
        (["attach", f"http://127.0.0.1:1/join/words#{'0' * 64}"], 5, "then try again"),
        (
            ["attach", f"http://127.0.0.1:1/join/words#{'0' * 64}", "--invite", "x"],
            2,
            "not an invite",
        ),
        (["detach", "words"], 2, "is attached"),
        (["status"], 7, "not running"),
        (["logs"], 2, "no log"),
    ],
)
def test_errors_are_one_sentence_and_a_code(tmp_path, capsys, words, code, sentence):
    home = ["--home", str(tmp_path / "home")]
    assert main([words[0], *home, *words[1:]]) == code
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert main([words[0], *home, "--json", *words[1:]]) == code
    assert json.loads(capsys.readouterr().out)["exit"] == code


def test_an_idle_agentd_does_not_tick(tmp_path):
    async def story():
        async with agentd(tmp_path) as process:
            await asyncio.sleep(0.5)
            before = _cpu_ticks(process.pid)
            await asyncio.sleep(2)
            assert _cpu_ticks(process.pid) - before <= 1

    asyncio.run(story())


def _cpu_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_pause_before_the_start_holds(tmp_path):
    async def story():
        await command(tmp_path, "pause")
        async with agentd(tmp_path):
            await asyncio.sleep(0.3)
            assert "paused: Paused by you" in await command(tmp_path, "status")
            started = time.monotonic()
            await command(tmp_path, "resume")
            assert "No project" in await command(tmp_path, "status")
            assert time.monotonic() - started < 5

    asyncio.run(story())


def test_habits_are_shown_and_forgotten_with_and_without_an_agent(tmp_path):
    async def story():
        await command(tmp_path, "resume")  # makes the journal
        now = time.time()
        with closing(Journal(tmp_path / "journal.sqlite")) as journal:
            for days in range(10, 0, -1):
                began = now - days * 86_400
                journal.note_event(Event(began, EventKind.RUN, "", say("Free to work.")))
                journal.note_event(Event(began + 9000, EventKind.PAUSE, "", say("In use.")))
        learned = "Learned from 10 times"
        assert learned in await command(tmp_path, "habits")
        async with agentd(tmp_path):
            assert learned in await command(tmp_path, "habits")
            found = json.loads(await command(tmp_path, "habits", "--json"))
            assert found["learns"]
            assert found["times"] == 10
            assert "Learned from 0 times" in await command(tmp_path, "habits", "--forget")
        assert "is not known yet" in await command(tmp_path, "habits", "--forget")

    asyncio.run(story())


def test_the_home_is_for_the_user_alone(tmp_path):
    home = tmp_path / "home"
    main(["pause", "--home", str(home)])
    assert stat.S_IMODE(home.stat().st_mode) & 0o077 == 0


def test_a_restart_keeps_the_port_unless_somebody_took_it(tmp_path):
    async def port():
        async with agentd(tmp_path) as process:
            place = json.loads((tmp_path / "agentd.json").read_text())
            process.send_signal(signal.SIGTERM)
            await process.wait()
            return place["port"]

    async def story():
        first = await port()
        assert await port() == first
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", first))
            other.listen()
            assert await port() != first

    asyncio.run(story())
