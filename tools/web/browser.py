"""Opens a page in headless Chromium, over the DevTools protocol through two pipes, and says what the page did."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
TO_BROWSER, FROM_BROWSER = 3, 4  # where Chromium expects the ends of the pipes
DEADLINE_SECONDS = 60.0
SETTLE_SECONDS = 0.5


@dataclass
class Visit:
    """What happened while a page was open."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def find_chromium() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path), None)


def visit(chromium: str, page: Path | str, profile: Path, width: int, expressions: dict[str, str]) -> Visit:
    """Opens a file or an address `width` pixels wide, evaluates JavaScript expressions in it, and closes the browser.

    Promises are waited for.
    """
    with Browser(chromium, profile) as browser:
        session = browser.attach()
        for domain in ("Page", "Network", "Runtime", "Log"):
            browser.call(f"{domain}.enable", session=session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.call("Emulation.setDeviceMetricsOverride", size, session=session)
        url = page if isinstance(page, str) else page.as_uri()
        browser.call("Page.navigate", {"url": url}, session=session)
        browser.wait_for("Page.loadEventFired")
        browser.drain(SETTLE_SECONDS)
        result = Visit()
        for name, expression in expressions.items():
            asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
            answer = browser.call("Runtime.evaluate", asked, session=session)
            if "exceptionDetails" in answer:
                raise RuntimeError(f"{name}: {answer['exceptionDetails']}")
            result.values[name] = answer["result"]["value"]
        for event in browser.events:
            note(event, result)
        return result


def note(event: dict[str, Any], result: Visit) -> None:
    method, params = event["method"], event.get("params", {})
    if method == "Network.requestWillBeSent":
        result.requests.append(params["request"]["url"])
    elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        result.messages.append(json.dumps(params))


class Browser:
    """A Chromium process and the conversation with it; messages end with a zero byte."""

    def __init__(self, chromium: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._unread = b""
        their_input, self._write = os.pipe()
        self._read, their_output = os.pipe()
        # Both are moved out of the way of the two numbers they will get in the child.
        ends = [os.dup2(end, TO_BROWSER + 100 + place) for place, end in enumerate((their_input, their_output))]

        def connect() -> None:
            os.dup2(ends[0], TO_BROWSER)
            os.dup2(ends[1], FROM_BROWSER)

        self._process = subprocess.Popen(
            [chromium, *QUIET, f"--user-data-dir={profile}", "about:blank"],
            close_fds=False,
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (their_input, their_output, *ends):
            os.close(end)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(DEADLINE_SECONDS)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._write)
            os.close(self._read)

    def attach(self) -> str:
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        return str(self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"])

    def call(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (answer := self._next(deadline)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def wait_for(self, method: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while all(event["method"] != method for event in self.events):
            self.events.append(self._next(deadline))

    def drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.events.append(self._next(deadline))
            except TimeoutError:
                return

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium did not answer in time.")
            received = os.read(self._read, 1 << 16)
            if not received:
                raise OSError("Chromium ended unexpectedly.")
            self._unread += received
        message, self._unread = self._unread.split(b"\0", 1)
        return dict(json.loads(message))
