"""A headless Chromium for the tests of pages: what it shows, what it complains of, and what it asks a network for."""

import base64
import contextlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Headless as any user, root too, with nothing that the browser itself would ask a network for.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
)
DESKTOP = (1200, 900)
PHONE = (360, 740)
WAIT_S = 60.0  # for what a page needs a moment for; a machine may be busy


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    programs = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if programs:
        return f"{' and '.join(programs)} not found; on Debian: apt-get install chromium chromium-driver"
    return "" if importlib.util.find_spec("selenium") else "selenium isn't installed; make test installs it"


class Chromium:
    """One page at a time."""

    def __init__(self, driver: "Chrome") -> None:
        self.driver = driver

    def open(self, page: Path) -> tuple[list[str], list[str]]:
        """Loads a file on a desktop, in light colours: what the console says, and which addresses are asked for."""
        self.show()
        self.driver.get("about:blank")
        self._log("browser")
        self._log("performance")
        self.driver.get(page.as_uri())
        return self.complaints(), self.requests()

    def complaints(self) -> list[str]:
        """What the console has got since the last question."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last question, without those that hold their content."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        urls = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:", "about:"))]

    def show(self, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> None:
        """Of another size, in pixels, or in other colours."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def ask(self, script: str, *arguments: Any) -> Any:
        """What an expression of JavaScript gives, in which `arguments` are."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def find(self, selector: str) -> Any:
        """The first element."""
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The text of each element."""
        found: list[str] = self.ask("[...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)
        return [" ".join(text.split()) for text in found]

    def style(self, selector: str, name: str) -> str:
        """A computed style."""
        return str(self.ask(f"getComputedStyle(document.querySelector({json.dumps(selector)})).{name}"))

    def press(self, *keys: str) -> None:
        """Keys, by their names in selenium (`ENTER`), or letters, for whatever has the focus."""
        from selenium.webdriver import ActionChains, Keys

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(getattr(Keys, key, key))
        actions.perform()

    def point_at(self, x: float, y: float) -> None:
        """Moves the mouse, in pixels from the window's upper left corner."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        builder = ActionBuilder(self.driver)
        builder.pointer_action.move_to_location(round(x), round(y))
        builder.perform()
        ActionChains(self.driver).pause(0.1).perform()

    def wait(self, script: str) -> None:
        """Until the expression is true; fails if that takes too long."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, WAIT_S, poll_frequency=0.05).until(lambda _: self.ask(script))

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        options = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", options)["data"])

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.get_log(kind)
        return found


@contextlib.contextmanager
def started(profile: Path) -> Iterator[Chromium]:
    """A browser with an empty profile, which ends with the block."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver is named, or selenium would look for one to download.
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Chromium(driver)
    finally:
        driver.quit()
