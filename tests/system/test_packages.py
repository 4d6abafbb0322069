"""The packages as people meet them: installed, used, updated and removed, from a real build."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.by import By

from installers.build.build_packages import build_archive, build_package
from pleb_agent.program.installed import InstallKind, read_build
from tests.e2e.world import PROJECTS, World, wait_until
from tests.system.chromium import chromium
from tests.system.desktop import x_server
from tests.system.packages_world import ARCHIVE_LEVEL, CleanRoot, an_operator

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def operator(tmp_path_factory):
    with an_operator(tmp_path_factory.mktemp("operator")) as made:
        yield made


@pytest.fixture(scope="module")
def agent(operator):
    """The build of version 0.1.0."""
    return operator.build("0.1.0")


@pytest.fixture(scope="module")
def deb(agent, operator):
    return build_package(agent, InstallKind.DEB, operator.folder / "dist")


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory):
    root = CleanRoot(tmp_path_factory.mktemp("debian"))
    root.make()
    root.path.chmod(0o755)
    with root:
        yield root


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


# -- the build ----------------------------------------------------------------------------------


def test_the_build_is_small_starts_fast_and_holds_no_torch(agent):
    size = sum(path.lstat().st_size for path in agent.rglob("*") if not path.is_symlink())
    assert size < 90 * 2**20
    assert not list(agent.rglob("*torch*/_C*"))
    program = agent / "pleb-agent"
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    assert min(times) < 2, "the command line starts fast"


def test_a_frozen_build_runs_our_modules_only(agent):
    program = agent / "pleb-agent"
    done = subprocess.run(
        [program, "--run-module", "http.server"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "takes one of" in done.stderr


def test_a_frozen_build_reads_calendars_and_speaks_mqtt(agent, tmp_path):
    """Their libraries are imported late, where PyInstaller has to find them, too."""
    calendar = tmp_path / "work.ics"
    event = ["BEGIN:VEVENT", "UID:1", "SUMMARY:x", "DTSTART;TZID=Europe/Berlin:20261130T100000"]
    event += ["DTEND;TZID=Europe/Berlin:20261130T110000", "RRULE:FREQ=WEEKLY", "END:VEVENT"]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:t", *event, "END:VCALENDAR", ""]
    calendar.write_text("\r\n".join(lines))
    begin = datetime(2026, 12, 7, tzinfo=UTC).timestamp()
    module = ["--run-module", "pleb_agent.signals.calendar_reader"]
    done = subprocess.run(
        [agent / "pleb-agent", *module, calendar, str(begin), str(begin + 86_400)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[begin + 9 * 3600, begin + 10 * 3600]]
    assert list(agent.rglob("paho_mqtt*.dist-info")), "it is part of the build"


def test_the_other_packages_are_made_of_the_same_build(agent, tmp_path):
    rpm = build_package(agent, InstallKind.RPM, tmp_path)
    arch = build_package(agent, InstallKind.ARCH, tmp_path)
    assert rpm.name == f"pleb-agent-0.1.0-1.{platform.machine()}.rpm"
    assert rpm.read_bytes()[:4] == bytes.fromhex("edabeedb")
    assert arch.name == f"pleb-agent-0.1.0-1-{platform.machine()}.pkg.tar.zst"
    assert arch.read_bytes()[:4] == bytes.fromhex("28b52ffd")


# -- the deb ------------------------------------------------------------------------------------


def test_the_deb_holds_roots_files_that_only_root_changes(deb, tmp_path):
    listed = subprocess.run(
        ["dpkg-deb", "--contents", deb], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for line in listed:
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode[0] == "l" or (mode[5], mode[8]) == ("-", "-"), line
    paths = {line.split()[5] for line in listed}
    assert {
        "./usr/bin/pleb-agent",
        "./usr/lib/systemd/user/pleb-agent.service",
        "./usr/share/applications/pleb-agent.desktop",
        "./usr/share/doc/pleb-agent/copyright",
        "./usr/share/icons/hicolor/scalable/apps/pleb-agent.svg",
        "./usr/share/man/man1/pleb-agent.1.gz",
    } <= paths
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path], check=True)
    inside = tmp_path / "usr/lib/pleb-cluster"
    installation = read_build(inside, inside / "_internal")
    assert (installation.kind, installation.version) == (InstallKind.DEB, "0.1.0")
    assert installation.has_updates
    licences = list((inside / "_internal").glob("*.dist-info"))
    assert len(licences) > 20, "every library's licence travels along"


@pytest.mark.timeout(900)  # with the runtime's packing and a whole Debian
def test_the_deb_is_installed_trains_a_unit_and_is_removed(
    operator, deb, clean_root, world, tmp_path
):
    operator.publish_runtime()
    before = clean_root.files()

    # Somebody with root installs the package.
    shutil.copy(deb, clean_root.path / "agent.deb")
    clean_root.run("dpkg", "--install", "/agent.deb")
    (clean_root.path / "agent.deb").unlink()

    # A researcher has published a project; the operator's own host will confirm results.
    world.serve()
    link = world.publish(PROJECTS / "tiny")

    # The user starts the agent; torch comes as a signed runtime.
    running = clean_root.start_as_user(
        "pleb-agent", "start", "--headless", "--preset", "full", "--json",
        log=tmp_path / "agent.log",
    )  # fmt: skip

    def tells(*words: str):
        done = clean_root.run_as_user("pleb-agent", *words, "--json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    wait_until("the agent to run", lambda: (s := tells("status")) and s["running"])
    clean_root.run_as_user("pleb-agent", "attach", link, "--name", "somebody")
    wait_until(
        "the runtime to be installed",
        lambda: (s := tells("status")) and s["runtime"] and s["runtime"]["state"] == "installed",
        seconds=180,
    )
    runtimes = clean_root.user_home / ".local/share/pleb-cluster/agent/runtimes"
    assert len(list(runtimes.glob("cpu-*"))) == 1

    # A unit is trained, and accepted when a second host has confirmed it.
    world.attach("trusted", link, trusted=True)
    world.start_agent("trusted")

    def accepted():
        state = tells("status")
        return state and state["projects"][0]["counters"].get("verdicts_valid")

    try:
        wait_until("a unit to be accepted", accepted, seconds=180)
    except AssertionError as error:
        log = clean_root.user_home / ".local/share/pleb-cluster/agent/logs/agentd.jsonl"
        raise AssertionError(f"{error}\n{tells('status')}\n{log.read_text()[-6000:]}") from None

    # The worker's sandbox holds in the frozen build too.
    doctor = clean_root.run_as_user("pleb-agent", "doctor", "--json", check=False).stdout
    findings = {one["name"]: one for one in json.loads(doctor)["findings"]}
    for layer in ("files", "calls", "memory"):
        assert findings[layer]["is_well"], findings[layer]

    # Removing the package ends the agent and leaves nothing outside the user's home.
    clean_root.run("dpkg", "--purge", "pleb-agent")
    assert running.wait(30) in {0, -signal.SIGTERM}
    assert clean_root.run("dpkg", "--listfiles", "pleb-agent", check=False).returncode == 1
    left = clean_root.files() - before
    assert {path for path in left if not path.startswith(("var/lib/dpkg/", "var/log/"))} == set()


# -- from the join page -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desktop_root(tmp_path_factory):
    """A Debian with what every desktop has to open links."""
    root = CleanRoot(tmp_path_factory.mktemp("desktop"))
    root.make(include=("xdg-utils", "desktop-file-utils"))
    root.path.chmod(0o755)
    with root:
        yield root


class Stopwatch:
    """Seconds since it was made, by what was reached then."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.reached: dict[str, float] = {}

    def note(self, what: str) -> None:
        self.reached[what] = round(time.monotonic() - self._begun, 1)
        print(f"{what}: {self.reached[what]} s")


@pytest.fixture
def pictures(tmp_path):
    """Where pictures and seconds go: a folder that is kept if $PLEB_PICTURES names one."""
    return Path(os.environ.get("PLEB_PICTURES", tmp_path))


@pytest.mark.timeout(1200)
def test_from_the_join_page_to_the_first_accepted_unit(
    operator, deb, desktop_root, world, tmp_path, pictures
):
    """Download, install, open: a browser is all that the volunteer's PC had before."""
    if not list((operator.folder / "repository").glob("targets/**/*cpu-*")):
        operator.publish_runtime()
    world.serve()
    world.admin("packages", "add", deb)
    link = world.publish(PROJECTS / "tiny")
    world.attach("trusted", link, trusted=True)
    world.start_agent("trusted")
    watch = Stopwatch()
    with x_server() as display, chromium(tmp_path / "profile") as browser:
        package, handed = download_from_join_page(browser, world, deb, tmp_path, pictures)
        watch.note("downloaded")

        # The package, with root's password.
        shutil.copy(package, desktop_root.path / "agent.deb")
        desktop_root.run("dpkg", "--install", "/agent.deb")
        watch.note("installed")
        # Of two busy cores an idle worker gets nothing: this PC's other programs are tests.
        desktop_root.run_as_user("pleb-agent", "prefs", "set", "nice=off")

        # Second click: the browser hands the link to the system, and the system to the agent.
        browser.driver.get(open_link(desktop_root, handed, display.display))
        browser.wait(lambda: "Tiny digits" in browser.text("facts"))
        watch.note("project shown")
        facts = browser.text("facts")
        for said in ("tests@example.org", world.url, "Energy per day"):
            assert said in facts
        status = json.loads(desktop_root.run_as_user("pleb-agent", "status", "--json").stdout)
        assert status["projects"] == [], "nothing is attached before the volunteer agrees"
        browser.keep_picture(pictures / "join-2-facts.png")

        # Third click; then the first unit.
        browser.find("attach").submit()
        browser.wait_for_path("/welcome/limits")
        watch.note("joined")
        train_first_unit(browser, watch)
        browser.keep_picture(pictures / "join-3-accepted.png")
    (pictures / "join-seconds.json").write_text(json.dumps(watch.reached))
    desktop_root.run("dpkg", "--purge", "pleb-agent")


def download_from_join_page(browser, world, deb, folder, pictures) -> tuple[Path, str]:
    """Click the first button; return the file, and the link of the second one."""
    behaviour = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    browser.driver.get(f"{world.url}/join/tiny")
    assert browser.text("download") == "Download for Debian/Ubuntu"
    page = browser.text("main")
    assert "tests@example.org" in page
    assert page.index("Download for") < page.index("Open in Pleb") < page.index("pip")
    for scheme in ("light", "dark"):
        browser.prefer(prefers_color_scheme=scheme)
        for width in (1280, 390):
            browser.resize(width)
            assert browser.overhang() <= 0
            assert browser.axe() == []
            browser.keep_picture(pictures / f"join-1-{scheme}-{width}.png")
    browser.resize(1280)
    handed = browser.find("pleb-link").get_attribute("href")
    browser.click("download")
    package = folder / "downloads" / deb.name
    browser.wait(package.exists)
    assert package.read_bytes() == deb.read_bytes()
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    assert digest in browser.text_content("main")
    return package, handed


def open_link(root: CleanRoot, link: str, display: str) -> str:
    """Open a link as a desktop's browser does; return the page that the agent opened for it."""
    script = root.path / "usr/local/bin/a-browser"
    opened = root.user_home / "opened"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$1" >/home/{root.USER}/opened\n')
    script.chmod(0o755)
    session = (f"DISPLAY={display}", "BROWSER=/usr/local/bin/a-browser")
    root.run_as_user("env", *session, "xdg-open", link)
    wait_until("the agent to open its page", opened.exists, seconds=60)
    return opened.read_text()


def train_first_unit(browser, watch: Stopwatch) -> None:
    """Go through the rest of the welcome, until another PC has confirmed the unit."""
    browser.driver.find_element(By.LINK_TEXT, "Continue to the first unit").click()
    browser.wait_for_path("/welcome/unit")

    def stage() -> str:
        return str(browser.find("first-unit").get_attribute("data-stage"))

    browser.wait(lambda: stage() == "ready", 240)
    watch.note("PyTorch installed")
    browser.click("train-now")
    browser.wait(lambda: stage() == "accepted", 240)
    watch.note("first unit accepted")


# -- the archive that updates itself ------------------------------------------------------------


class Installed:
    """An archive that a user has installed."""

    def __init__(self, home: Path):
        self.home = home
        self.app = home / ".local/share/pleb-cluster/app"
        self.data = home / "agent"
        self.environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        self.process: subprocess.Popen[bytes] | None = None

    def install(self, archive: Path, scratch: Path) -> None:
        scratch.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", scratch], check=True)
        subprocess.run([scratch / "install.sh"], check=True, env=self.environment)

    def start(self) -> None:
        program = self.home / ".local/bin/pleb-agent"
        command = [str(program), "start", "--headless", "--home", str(self.data)]
        with (self.home / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def control(self) -> dict[str, Any]:
        try:
            control: dict[str, Any] = json.loads((self.data / "agentd.json").read_bytes())
        except FileNotFoundError:
            return {}
        return control

    def running_version(self) -> str:
        """The version whose agentd answers, or nothing."""
        control = self.control()
        try:
            self.api("GET", "status")
            program = Path(f"/proc/{control['pid']}/exe").readlink()
        except (OSError, KeyError, httpx.HTTPError):
            return ""
        return program.parent.name

    def current_version(self) -> str:
        return (self.app / "current").readlink().name

    def api(self, method: str, name: str) -> dict[str, Any]:
        control = self.control()
        answer = httpx.request(
            method,
            f"http://127.0.0.1:{control['port']}/api/{name}",
            headers={"authorization": f"Bearer {control['token']}"},
            content=b"{}" if method == "POST" else None,
            timeout=60,
            trust_env=False,
        )
        answer.raise_for_status()
        value: dict[str, Any] = answer.json()
        return value

    def end(self) -> None:
        program = self.app / "pleb-agent"
        subprocess.run([program, "stop", "--home", self.data], check=True, env=self.environment)
        assert self.process is not None
        self.process.wait(30)


def broken(operator, agent: Path) -> Path:
    """A release that was put together wrongly: its Python misses a part."""
    folder: Path = operator.as_version(agent, "0.3.0")
    (folder / "_internal" / "base_library.zip").unlink()
    return folder


def test_an_archive_updates_itself_and_comes_back_from_a_broken_release(operator, agent, tmp_path):
    def release(folder: Path) -> Path:
        return build_archive(folder, tmp_path, suffix=".tar.gz", level=ARCHIVE_LEVEL)

    installed = Installed(tmp_path / "home")
    installed.install(release(agent), tmp_path / "unpacked")
    installed.start()
    wait_until("0.1.0 to run", lambda: installed.running_version() == "0.1.0")

    operator.publisher().add([release(operator.as_version(agent, "0.2.0"))])
    operator.server.break_after = [5 * 2**20]  # the first download breaks off
    installed.api("POST", "update")
    wait_until("0.2.0 to run", lambda: installed.running_version() == "0.2.0")
    wait_until("0.2.0 to be current", lambda: installed.current_version() == "0.2.0")

    operator.publisher().add([release(broken(operator, agent))])
    installed.api("POST", "update")
    wait_until("0.3.0 to be marked", (installed.app / "bad-versions.json").exists)
    wait_until("0.2.0 to run again", lambda: installed.running_version() == "0.2.0")
    assert json.loads((installed.app / "bad-versions.json").read_bytes()) == ["0.3.0"]
    assert installed.current_version() == "0.2.0"
    assert not (installed.app / "versions/0.3.0").exists()

    installed.end()
    uninstall = [str(installed.app / "uninstall.sh"), "--data"]
    subprocess.run(uninstall, check=True, env=installed.environment)
    left = [path for path in (installed.home / ".local").rglob("*") if not path.is_dir()]
    assert left == []
