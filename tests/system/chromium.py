"""A real, headless Chromium for the tests of pages."""

from __future__ import annotations

import base64
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

DEADLINE_SECONDS = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1280,900",
)


@contextmanager
def chromium(profile: Path, language: str = "en") -> Iterator[Browser]:
    """Start a browser, and end it."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.binary_location = shutil.which("chromium") or "chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@dataclass
class Browser:
    """A browser with one page open."""

    driver: webdriver.Chrome

    # -- looking ------------------------------------------------------------------------------

    def wait(self, what: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
        wait = WebDriverWait(
            self.driver, seconds, 0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: what())

    def find(self, name: str) -> WebElement:
        """Return the element of this id, as soon as it is there."""
        found = self.wait(lambda: self.driver.find_elements(By.ID, name))
        element: WebElement = found[0]
        return element

    def text(self, name: str) -> str:
        return self.find(name).text

    def text_of(self, selector: str) -> str:
        """Return the text of the first element that a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def text_content(self, name: str) -> str:
        """Return the text of an element, seen or not."""
        return str(self.find(name).get_attribute("textContent"))

    def wait_for_text(self, name: str, words: str) -> None:
        self.wait(lambda: words in self.find(name).text)

    def path(self) -> str:
        found: str = self.driver.execute_script("return location.pathname")
        return found

    def wait_for_path(self, path: str) -> None:
        self.wait(lambda: self.path() == path)
        self.wait_until_live()

    def wait_until_live(self) -> None:
        """The page's stream is open."""
        self.wait(lambda: self.driver.execute_script("return document.body.dataset.link") == "live")

    def overhang(self) -> int:
        """By how many pixels the page is wider than its window."""
        script = "return document.documentElement.scrollWidth - innerWidth"
        return int(self.driver.execute_script(script))

    def complaints(self) -> list[str]:
        """What the browser's console has said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
        found: list[str] = self.driver.execute_script(script)
        return found

    def axe(self) -> list[str]:
        """Serious and critical findings of axe-core, as rule, element and advice.

        Transitions are ended first: half-way between two colour schemes, the contrast is neither's.
        """
        source = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
        self.driver.execute_script(source)
        self.driver.execute_script(
            "document.getAnimations().filter(animation => animation instanceof CSSTransition)"
            ".forEach(transition => transition.finish())"
        )
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(done, error => done(String(error)));"
        )
        assert isinstance(found, dict), found
        assert found["passes"], "axe looked at nothing"
        return [
            f"{finding['id']}: {node['target']} {node['failureSummary']}"
            for finding in found["violations"]
            if finding["impact"] in {"serious", "critical"}
            for node in finding["nodes"]
        ]

    # -- doing --------------------------------------------------------------------------------

    def click(self, name: str) -> None:
        """Click what has this id, wherever a morph has just put it."""

        def clicked() -> bool:
            element = self.find(name)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
            return True

        self.wait(clicked)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, on whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def focused(self) -> str:
        """The id, or else the text, of what has the focus."""
        script = "const e = document.activeElement; return e.id || e.textContent.trim()"
        found: str = self.driver.execute_script(script)
        return found

    def tab_to(self, name: str, most: int = 120) -> None:
        """Press Tab until this is focused."""
        for _ in range(most):
            if self.focused() == name:
                return
            self.press(Keys.TAB)
        message = f"{name} cannot be reached with Tab"
        raise AssertionError(message)

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, **features: str) -> None:
        """Set media features, as `prefers_color_scheme="dark"`."""
        given = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": given})

    def keep_picture(self, path: Path) -> None:
        """Write a picture of all of the page."""
        found = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(found["data"]))
