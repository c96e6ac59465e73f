"""Headless Chromium, driven over its debugging pipe, with nothing but the standard library."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BINARY = next((found for name in NAMES if (found := shutil.which(name))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe"),
)
_KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "ArrowLeft": (37, ""),
    "ArrowRight": (39, ""),
    "Tab": (9, ""),
    " ": (32, " "),
    "d": (68, "d"),
    "m": (77, "m"),
}
_AT = "document.readyState === 'complete' && location.href.split('#')[0] === {}"


class BrowserEnded(Exception):
    """The browser has closed its end of the pipe."""


class Browser:
    """One tab.

    Attributes:
        complaints: What the console, uncaught errors and the browser's own log said of the file.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._buffer, self._number = b"", 0
        self.complaints: list[str] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._receive, 1 << 20)
            if not more:
                raise BrowserEnded
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        self._note(found.get("method", ""), found.get("params", {}))
        return found

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"error: {params['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.complaints.append(f"log: {params['entry']['text']}")

    def show(
        self,
        path: Path,
        width: int,
        height: int = 900,
        dark: bool = False,
        fragment: str = "",
    ) -> None:
        """Open a file in a window of some size, at a fragment of its address, such as `#notes`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])
        self.call("Page.navigate", url="about:blank")  # the same file again is loaded again, too
        self.wait_for(_AT.format(json.dumps("about:blank")))
        self.complaints.clear()
        address = path.resolve().as_uri()
        self.call("Page.navigate", url=address + fragment)
        self.wait_for(_AT.format(json.dumps(address)))

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the page: events come when they come."""
        until = time.monotonic() + 60
        while not self.js(expression):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)

    def js(self, expression: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = _KEYS[key]
        common = {"key": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **common, **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Save what is shown, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it; a test is skipped where it cannot start.

    A machine may have a Chromium that its sandbox does not let start. That is no fault of a page;
    the reason given is what Chromium itself said. One that ends later fails the test.
    """
    assert BINARY is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        tempfile.TemporaryFile() as said,
    ):
        words = (BINARY, *_FLAGS, f"--user-data-dir={profile}", "about:blank")
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}', *words],
            pass_fds=(to_read, from_write),
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        os.close(to_read)
        os.close(from_write)
        try:
            try:
                opened = Browser(to_write, from_read)
            except (BrowserEnded, BrokenPipeError):
                process.wait(30)
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                fatal = [line for line in lines if "FATAL" in line]
                why = " / ".join((fatal or lines)[:2]) or "it said nothing"
                pytest.skip(f"{BINARY} does not start here ({process.returncode}): {why}")
            yield opened
        finally:
            process.terminate()
            process.wait(30)
            os.close(to_write)
            os.close(from_read)
