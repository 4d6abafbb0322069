"""The project's page in a real browser, against a real coordinator with two real hosts.

The hosts train by the client of `tests.e2e.stranger`, so that the page lives as it would.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.stranger import Stranger
from tests.e2e.world import PROJECTS, World
from tests.system.chromium import DEADLINE_SECONDS, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium import webdriver

pytestmark = pytest.mark.system


class Trainer(threading.Thread):
    """A trusted host that does unit after unit while `goes_on` is set."""

    def __init__(self, link: str, invite: str) -> None:
        super().__init__(daemon=True)
        self.host = Stranger(link)
        self.host.enrol(invite)
        self.goes_on = threading.Event()
        self.ends = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ends.is_set():
                if self.goes_on.wait(0.1):
                    self._work()
        except BaseException as error:  # noqa: BLE001 - the test reports it
            self.error = error

    def _work(self) -> None:
        host = self.host
        for manifest in host.post(host.request(wait_seconds=1))["manifests"]:
            if manifest["unit"]["kind"] == "evaluate":
                self._evaluate(manifest)
                continue
            delta, losses = host.train(manifest)
            report = host.report(manifest, delta, losses)
            attached = zlib.compress(delta) if report["result"]["attached"] else b""
            host.post(host.request(reports=[report], max_units=0), attached)

    def _evaluate(self, manifest: dict[str, Any]) -> None:
        result = {"kind": "evaluation", "metrics": {"loss": 1.0, "accuracy": 0.5}, "examples": 9}
        report = self.host.report(manifest, b"", [0.0]) | {"result": result}
        self.host.post(self.host.request(reports=[report], max_units=0))

    def stop(self) -> None:
        self.ends.set()
        self.join(DEADLINE_SECONDS)
        self.host.http.close()
        assert self.error is None, self.error


@dataclass
class Page:
    """A browser on the project's page."""

    driver: webdriver.Chrome
    url: str

    def text(self, name: str) -> str:
        return self.driver.find_element(By.ID, name).text

    def wait(self, what: Any) -> Any:
        return WebDriverWait(self.driver, DEADLINE_SECONDS, 0.1).until(lambda _: what())

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        script = "return performance.getEntriesByType('resource').map(e => e.name)"
        found: list[str] = self.driver.execute_script(script)
        return found


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path / "profile") as browser:
        browser.driver.set_window_size(1200, 1500)
        yield browser.driver


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def trainer(world: World) -> Iterator[Trainer]:
    world.serve()
    trainer = Trainer(world.publish(PROJECTS / "tiny"), world.invite("trusted"))
    trainer.start()
    try:
        yield trainer
    finally:
        trainer.stop()


def test_the_page_lives(world: World, trainer: Trainer, driver: webdriver.Chrome) -> None:
    page = Page(driver, f"{world.url}/projects/tiny")
    driver.get(page.url)

    # Before anything has happened, the page says so.
    assert driver.find_element(By.TAG_NAME, "h1").text == "Tiny digits"
    page.wait(lambda: page.text("link-state") == "live")
    assert page.text("version") == "0"
    assert driver.find_element(By.ID, "loss-empty").is_displayed()
    driver.execute_script("window.unreloaded = true")

    # The first versions appear by themselves: numbers, plots, lists; what was opened stays so.
    driver.find_element(By.CSS_SELECTOR, "#results > summary").click()
    trainer.goes_on.set()
    page.wait(lambda: int(page.text("version")) >= 3)
    trainer.goes_on.clear()
    plots = driver.find_elements(By.CSS_SELECTOR, ".plot .u-over")
    assert len(plots) == 2
    assert all(plot.size["width"] > 300 and plot.size["height"] > 100 for plot in plots)
    assert int(driver.find_element(By.ID, "loss-plot").get_attribute("data-points") or 0) >= 4
    assert inked(driver) > 200
    page.wait(lambda: driver.find_elements(By.CSS_SELECTOR, "#live tbody tr"))
    assert "stranger" in driver.find_element(By.CSS_SELECTOR, "#live tbody tr").text
    page.wait(lambda: driver.find_elements(By.CSS_SELECTOR, ".units li"))
    assert driver.find_element(By.CSS_SELECTOR, ".units li").is_displayed()
    driver.find_element(By.CSS_SELECTOR, "#results > summary").click()
    assert not driver.find_element(By.CSS_SELECTOR, ".units li").is_displayed()
    said = driver.find_element(By.ID, "announcement").get_attribute("textContent") or ""
    assert "Version" in said
    assert driver.execute_script("return window.unreloaded") is True

    # The join link leads to the attach link.
    driver.find_element(By.ID, "join").click()
    link = driver.find_element(By.ID, "attach-link").get_attribute("value") or ""
    assert link == world.links["tiny"]
    opened = driver.find_element(By.ID, "pleb-link").get_attribute("href") or ""
    assert opened == link.replace("http://", "pleb+http://")
    driver.back()
    page.wait(lambda: page.text("link-state") == "live")

    # The page says when the coordinator is gone, and is live again when it is back.
    assert world.coordinator is not None
    trainer.stop()
    assert page.complaints() == []
    world.coordinator.stop()
    page.wait(lambda: page.text("link-state") == "reconnecting")
    world.serve()
    page.wait(lambda: page.text("link-state") == "live")
    assert all(request.startswith(world.url) for request in page.requests())


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out(world: World, driver: webdriver.Chrome, width: int) -> None:
    world.serve()
    world.publish(PROJECTS / "tiny")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for path in ("/", "/projects/tiny", "/join/tiny", "/projects/none"):
        driver.get(world.url + path)
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width, path


def inked(driver: webdriver.Chrome) -> int:
    """Return how many pixels of the loss plot's canvas are drawn in the first line's colour."""
    script = """
    const canvas = document.querySelector("#loss-plot canvas");
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] > 200 && data[i] < 120 && data[i + 2] > 180) count += 1;
    }
    return count;
    """
    return int(driver.execute_script(script))
