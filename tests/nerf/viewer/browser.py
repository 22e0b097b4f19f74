"""A headless Chromium, driven over its debugging port (CDP) by websockets, which viser brings."""

import base64
import contextlib
import io
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import connect

from tests.waiting import wait_for

FLAGS = (
    *("--headless=new", "--no-sandbox", "--remote-debugging-port=0", "--no-first-run", "--hide-scrollbars"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
PATIENCE = 180.0  # seconds: two shared cores render the page in software


def chromium() -> str | None:
    """The program, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One open page."""

    def __init__(self, socket: Any):
        self.socket, self.number = socket, 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A CDP command; its result."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(timeout=PATIENCE))).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def size(self) -> tuple[int, int]:
        """(width, height) of the window in the pixels of mice and screenshots.

        viser draws in fewer on a slow machine, and gives its camera's image the size of these.
        """
        return tuple(self.evaluate("[innerWidth, innerHeight]"))

    def screenshot(self) -> np.ndarray:
        """uint8 [h, w, 3]."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def mouse(self, kind: str, x: float, y: float) -> None:
        """kind: mousePressed, mouseMoved or mouseReleased, of the left button."""
        pressed = {"button": "left", "buttons": 0 if kind == "mouseReleased" else 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 5) -> None:
        """Presses, moves in some steps and lets go."""
        self.mouse("mousePressed", *start)
        for x, y in np.linspace(start, end, steps + 1)[1:].tolist():
            self.mouse("mouseMoved", x, y)
            time.sleep(0.05)
        self.mouse("mouseReleased", *end)

    def click(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        time.sleep(0.7)  # the page looks at what is under the mouse when it draws
        self.mouse("mousePressed", x, y)
        time.sleep(0.1)
        self.mouse("mouseReleased", x, y)

    def wheel(self, x: float, y: float, by: float) -> None:
        """Turns the mouse's wheel; the view goes back by more than 0."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    def press(self, label: str) -> None:
        """Clicks the button of the page that has this text."""
        found = f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() === {json.dumps(label)})"
        wait_for(lambda: self.evaluate(f"!!{found}"))
        self.evaluate(f"{found}.click()")

    def unfold(self, label: str) -> None:
        """Opens the folder of the page's panel that has this title."""
        titles = "[...document.querySelectorAll('div, p, legend, span')]"
        found = f"{titles}.filter(e => e.textContent.trim() === {json.dumps(label)}).at(-1)"
        wait_for(lambda: self.evaluate(f"!!{found}"))
        self.evaluate(f"{found}.click()")

    def text(self) -> str:
        """All that the page says."""
        return self.evaluate("document.body.innerText")


@contextlib.contextmanager
def opened(url: str, profile: Path, size: tuple[int, int] = (960, 600)) -> Iterator[Page]:
    """A page at `url` in a browser of its own."""
    flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", url]
    process = subprocess.Popen([chromium(), *flags], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        ports = profile / "DevToolsActivePort"
        port = wait_for(lambda: ports.exists() and ports.read_text().split("\n")[0])
        listed = lambda: json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list"))
        page = wait_for(lambda: next((p for p in listed() if p["type"] == "page" and p["url"].startswith(url)), None))
        with connect(page["webSocketDebuggerUrl"], max_size=2**26) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait()
