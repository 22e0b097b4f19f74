"""The page of a run on images: plain HTML that renews itself, from the standard library's server.

viser draws scenes; what is to be seen of such a run is pictures and lines, for which a browser needs no program.
"""

import contextlib
import html
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jaxhw import checkpoint, metrics, plots
from jaxhw import mesh as meshes
from jaxhw.polling import EVERY, Poller
from jaxhw.process import Stopped, StopRequest
from jaxhw.serving import Address
from jaxhw.vision.viewer.examples import Examiner, Examples

PANELS = ("accuracy", "loss", "knn_accuracy", "feature_std", "projection_std", "alignment", "uniformity")
STYLE = (
    "body{font:15px sans-serif;max-width:60em;margin:2em auto;color:#333}img{max-width:100%}"
    "td{padding:.2em 1em .2em 0}.told{color:#b34700}"
)


def serve(workdir: Path, dataset: str, address: Address, stop: StopRequest) -> None:
    """Serves a run's page until it is asked to stop.

    Args:
      dataset: where its data set lies now; empty: where the run found it.
    """
    with tempfile.TemporaryDirectory() as folder, served(address) as shown:
        shown.folder = Path(folder)
        run = Watched(workdir, dataset, shown.folder, shown.publish)
        print(address.lines(), flush=True)
        with contextlib.suppress(Stopped):
            while not stop.asked:
                run.look()
                time.sleep(0.2)


def document(body: str) -> str:
    """An HTML page that is asked for again every few seconds."""
    head = f'<meta charset="utf-8"><meta http-equiv="refresh" content="{EVERY:g}"><title>jaxhw</title>'
    return f"<!doctype html><html><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>"


class Shown:
    """What the server answers with: a page, and the pictures of a folder. The threads of requests only read it."""

    page = document("nothing is read yet")
    folder: Path | None = None

    def publish(self, page: str) -> None:
        """The page is another from now on."""
        self.page = page


@contextlib.contextmanager
def served(address: Address) -> Iterator[Shown]:
    """A server that runs within; what it shows is set from outside."""
    shown = Shown()
    server = ThreadingHTTPServer(tuple(address), partial(_Handler, shown))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request: the page, or one of its pictures by name."""

    def __init__(self, shown: Shown, *request):
        self.shown = shown
        super().__init__(*request)

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        if not name:
            self._answer(self.shown.page.encode(), "text/html; charset=utf-8")
            return
        # By its name among the files there, so that no path leads out of the folder.
        files = {path.name: path for path in self.shown.folder.glob("*.png")} if self.shown.folder else {}
        if name in files:
            self._answer(files[name].read_bytes(), "image/png")
        else:
            self.send_error(404)

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the browser has gone
            self.wfile.write(content)

    def log_message(self, *args) -> None:
        """Requests are no news."""


class Watched(Poller):
    """A workdir that a run may still be writing into, and the pictures made of it.

    Args:
      folder: where they are made.
      publish: is given the page whenever there is more to be seen.
    """

    def __init__(self, workdir: Path, dataset: str, folder: Path, publish: Callable[[str], None] = lambda page: None):
        super().__init__(workdir)
        self.dataset, self.folder, self.publish = dataset, folder, publish
        self.examiner: Examiner | None = None
        self.examples: Examples | None = None
        self.shown = 0  # the step that the examples are of
        self.seen: tuple[int, bool] | None = None  # the newest checkpoint, and whether the run was finished
        self.line, self.told = "nothing is logged yet", ""

    def _read(self) -> None:
        lines = metrics.read(self.workdir / "metrics.jsonl")
        if lines:
            numbers = {k: v for line in lines for k, v in line.items() if isinstance(v, float) and k != "time"}
            self.line = f"step {lines[-1]['step']}: " + ", ".join(f"{k} {v:.4g}" for k, v in sorted(numbers.items()))
            plots.curves(self.workdir / "metrics.jsonl", self.folder / "curves.png", PANELS)
        neighbours = self.workdir / "neighbours.png"
        if neighbours.is_file():
            shutil.copyfile(neighbours, self.folder / neighbours.name)
        newest, finished = checkpoint.newest(self.workdir), bool(metrics.results(self.workdir))
        if newest is not None and (newest, finished) != self.seen and (self.workdir / "labels.json").exists():
            self.publish(self.page())  # what follows takes long
            self.seen = newest, finished  # whatever comes of it: one that cannot be read is not tried again
            self.examiner = self.examiner or Examiner(self.workdir, self.dataset, self.folder, meshes.make_mesh())
            self.examples, self.shown, self.told = self.examiner(), newest, ""
        self.publish(self.page())

    def _tell(self, line: str) -> None:
        self.told = line
        self.publish(self.page())

    def page(self) -> str:
        """The page's HTML."""
        picture = lambda name: f'<img src="/{name}?{(self.folder / name).stat().st_mtime_ns}">'
        parts = [f"<h1>{html.escape(str(self.workdir))}</h1><p>{html.escape(self.line)}</p>"]
        if self.told:
            parts.append(f'<p class="told">{html.escape(self.told)}</p>')
        if (self.folder / "curves.png").exists():
            parts.append(picture("curves.png"))
        if (self.folder / "neighbours.png").exists():
            parts.append(f"<h2>Pictures and their nearest neighbours</h2>{picture('neighbours.png')}")
        if self.examples:
            rows = "".join(
                f"<tr><td>{picture(row.file.name)}</td><td>{html.escape(row.text)}</td></tr>"
                for row in self.examples.worst
            )
            parts += [
                f"<h2>Confusions at step {self.shown}</h2><p>{html.escape(self.examples.summary)}</p>",
                picture(self.examples.confusion.name),
                f"<h2>The worst pictures, and the training pictures nearest to them</h2><table>{rows}</table>",
            ]
        return document("".join(parts))
