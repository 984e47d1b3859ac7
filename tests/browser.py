"""A headless Chromium, driven by the DevTools protocol over two pipes: no server, no port, nothing
but the standard library.

    with Browser(folder) as browser:
        browser.open(path, width=900, height=700)
        browser.run("document.title")            the value of an expression
        browser.click("th button")               a real click in the middle of an element
        browser.key("ArrowRight")                a real key
        browser.requests                         every address that was asked for since `open`
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
# no look-ups of its own; as root Chromium has no sandbox
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# Chromium listens to file 3 and answers in file 4
LAUNCH = """
import os, sys
from fcntl import F_DUPFD, fcntl
there, here = (fcntl(int(number), F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(there, 3)
os.dup2(here, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 60.0  # seconds for an answer
ARROWS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def found() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One Chromium with one page."""

    def __init__(self, profile: Path):
        there, self.to = os.pipe()
        self.back, here = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(there), str(here), found() or "", *FLAGS]
            + [f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(there, here),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(here)
        self.read = b""
        self.asked = 0
        self.session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []  # what the page's console says is wrong

    def __enter__(self) -> Browser:
        (page,) = [
            target
            for target in self.tell("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        ]
        attached = self.tell("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for part in ("Page", "Runtime", "Network", "Log"):
            self.tell(f"{part}.enable")
        return self

    def __exit__(self, *error) -> None:
        self.session = None
        with contextlib.suppress(RuntimeError, TimeoutError, OSError):
            self.tell("Browser.close")
        self.process.terminate()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)

    # the protocol: JSON with a zero byte behind it

    def tell(self, method: str, **parameters):
        """Ask one thing; the answer."""
        self.asked += 1
        message = {"id": self.asked, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self.next(end)
            self.note(answer)
            if answer.get("id") == self.asked:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def next(self, end: float) -> dict:
        """The next message of the browser."""
        while b"\0" not in self.read:
            if not select.select([self.back], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self.read += part
        message, _, self.read = self.read.partition(b"\0")
        return json.loads(message)

    def note(self, message: dict) -> None:
        """Keep what tells of the network, and of mistakes."""
        told = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(told["exceptionDetails"]["exception"].get("description", ""))
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])

    # what a test does

    def open(self, path: Path, width: int = 900, height: int = 700, dark: bool = False) -> None:
        """Open a file in a window of this size."""
        self.requests.clear()
        self.errors.clear()
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while self.run("document.readyState") != "complete":
            if time.monotonic() > end:
                raise TimeoutError(f"{path} does not load")
            time.sleep(0.02)

    def run(self, expression: str):
        """The value of an expression of JavaScript."""
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def place(self, selector: str) -> tuple[float, float]:
        """The middle of an element, brought into view."""
        found = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        return found[0], found[1]

    def click(self, selector: str) -> None:
        """Press and release the left button over an element."""
        x, y = self.place(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name: str) -> None:
        """Press and release an arrow key."""
        code = ARROWS[name]
        for kind in ("rawKeyDown", "keyUp"):
            self.tell(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=name,
                windowsVirtualKeyCode=code,
            )

    def picture(self, path: Path, whole: bool = False) -> None:
        """A screenshot of what is seen, or of the whole page."""
        shot = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
