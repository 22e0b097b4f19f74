"""Google Cloud's notice that a machine is about to be maintained, which its metadata server gives a minute ahead.

Source: https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice. The run may survive it, so that a
notice is a reason to save, not to end; what ends it is SIGTERM.
"""

import http.client
import os
import sys
import threading
import urllib.request
from pathlib import Path

from tqdm import tqdm

EVERY = 5.0  # seconds between two questions
PATIENCE = 2.0  # seconds for an answer
NONE = "NONE"
PRODUCT = Path("/sys/class/dmi/id/product_name")  # of a machine of Google's: Google Compute Engine
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is the machine's own


class Notice:
    """Within, a thread asks this machine's metadata server, where it has one, for maintenance to come."""

    def __init__(self):
        self._come, self._closed = threading.Event(), threading.Event()

    def __enter__(self) -> "Notice":
        if host := metadata_host():
            threading.Thread(target=self._watch, args=(host,), daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._closed.set()

    def taken(self) -> bool:
        """Whether one has come since the last call."""
        if not self._come.is_set():
            return False
        self._come.clear()
        return True

    def _watch(self, host: str) -> None:
        event = NONE
        while not self._closed.is_set():
            before, event = event, ask(host) or event
            if event not in (NONE, before):
                tqdm.write(f"this machine is about to be maintained ({event}): saving, and going on", file=sys.stderr)
                self._come.set()
            self._closed.wait(EVERY)


def metadata_host() -> str:
    """Where the metadata server is: ``$GCE_METADATA_HOST``, as for Google's own libraries; empty: there is none."""
    try:
        google = PRODUCT.read_text().startswith("Google")
    except OSError:
        google = False
    return os.environ.get("GCE_METADATA_HOST") or ("metadata.google.internal" if google else "")


def ask(host: str) -> str:
    """What is about to happen to this machine, `NONE` as a rule; empty where the server does not say."""
    url = f"http://{host}/computeMetadata/v1/instance/maintenance-event"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with _direct.open(request, timeout=PATIENCE) as answer:
            return answer.read(100).decode("ascii", "replace").strip()
    except (OSError, ValueError, http.client.HTTPException):
        return ""
