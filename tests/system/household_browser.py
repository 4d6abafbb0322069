"""A browser in one PC's network namespace, on its own agent's household page.

    python -m tests.system.household_browser URL PROFILE SCREENSHOT

Waits for three PCs, pauses all, and prints JSON: seconds from the click to the page that shows all
three paused, what the browser asked for, and its complaints.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from selenium.webdriver.common.by import By

from tests.system.chromium import chromium

PCS = 3


def main(url: str, profile: str, screenshot: str) -> None:
    """Do it."""
    with chromium(Path(profile)) as browser:
        browser.driver.get(url)
        base = "/".join(url.split("/")[:3])
        browser.driver.get(f"{base}/household")

        def members() -> list[str]:
            found = browser.driver.find_elements(By.CSS_SELECTOR, "#household-members li")
            return [one.text for one in found]

        browser.wait(lambda: len(members()) == PCS)
        before = members()
        began = time.monotonic()
        browser.find("household-pause").click()
        browser.wait(lambda: sum("Paused" in one for one in members()) == PCS)
        seconds = time.monotonic() - began
        findings = browser.axe()
        browser.driver.save_screenshot(screenshot)
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "before": before,
                    "after": members(),
                    "requests": browser.requests(),
                    "complaints": browser.complaints(),
                    "axe": findings,
                    "base": base,
                }
            )
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
