"""A real browser without a window, which looks at reports: what is drawn, said, asked for and handed out."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
_SECONDS = 10


class Browser:
    """Chromium, driven; downloads lie in ``folder``."""

    def __init__(self, driver: Chrome, folder: Path) -> None:
        self.driver = driver
        self.folder = folder
        self.address = ""

    def open(self, page: Path, width: int = 1280, *, dark: bool = False) -> None:
        """Open a page from the disk, in a window of such a width."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.address = page.as_uri()
        self.driver.get(self.address)
        self.settle()

    def settle(self) -> None:
        """Wait until what was resized has been drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"
        )

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """The first element for a selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """All elements for a selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def figure(self, name: str) -> str:
        """Selector of a picture."""
        return f'[data-picture="{name}"]'

    def readout(self, name: str) -> str:
        """What is said under a picture."""
        return self.find(f"{self.figure(name)} .readout").text

    def click(self, element: WebElement) -> None:
        """Click on the middle of an element."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        self.settle()

    def point(self, element: WebElement, x: float, y: float, *, click: bool = False) -> None:
        """Move the mouse to a place in an element, counted from its upper left corner."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        width, height = element.size["width"], element.size["height"]
        chain = ActionChains(self.driver, duration=0)
        chain.move_to_element_with_offset(element, round(x - width / 2), round(y - height / 2))
        (chain.click() if click else chain).perform()
        self.settle()

    def drag(self, element: WebElement, x: float, to_x: float, y: float) -> None:
        """Press the mouse at one place, and let go at another."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        width, height = element.size["width"], element.size["height"]
        down = round(y - height / 2)
        chain = ActionChains(self.driver, duration=0)
        chain.move_to_element_with_offset(element, round(x - width / 2), down).click_and_hold()
        chain.move_to_element_with_offset(element, round(to_x - width / 2), down).release().perform()
        self.settle()

    def press(self, element: WebElement, *keys: str) -> None:
        """Press keys while an element has the focus."""
        self.run("arguments[0].focus()", element)
        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(getattr(Keys, key, key)).perform()
        self.settle()

    def pixels(self, selector: str) -> NDArray[np.uint8]:
        """What is seen of an element: [height, width, 3]."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        self.settle()
        picture = Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")
        return np.asarray(picture)

    def messages(self) -> list[str]:
        """What was written to the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for, but for the page itself and what it hands out."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        assert self.address in sent  # or nobody has listened
        return [url for url in sent if url != self.address and not url.startswith("blob:")]

    def download(self, selector: str) -> str:
        """What a button hands out."""
        before = set(self.folder.iterdir())
        self.click(self.find(selector))
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            done = [path for path in set(self.folder.iterdir()) - before if path.suffix == ".csv"]
            if done:
                return done[0].read_bytes().decode()
            time.sleep(0.02)
        raise AssertionError(f"{selector} has handed out nothing in {_SECONDS} seconds")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose downloads go to a folder."""
    options = Options()
    options.binary_location = CHROMIUM or ""
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    # Nothing of the browser's own, such as looking for updates.
    for argument in ("no-first-run", "disable-background-networking", "disable-component-update"):
        options.add_argument(f"--{argument}")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver, folder)
    finally:
        driver.quit()
