"""Where a page for browsers is served: an address that is free, and what the user is told of it."""

import errno
import platform
import socket
from typing import NamedTuple

from jaxhw.errors import UserError

LOCAL = "127.0.0.1"  # nobody else's browser gets in
PORT = 8080
TRIED = 100  # ports after a taken one among which a free one is looked for


class Address(NamedTuple):
    """Where a server listens."""

    host: str = LOCAL
    port: int = PORT

    @property
    def url(self) -> str:
        """What a browser on this machine opens."""
        return f"http://{LOCAL if self.host == '0.0.0.0' else self.host}:{self.port}"

    def lines(self) -> str:
        """What a user is told: the page's address, and how to open it from elsewhere."""
        if self.host != LOCAL:
            return f"viewer: {self.url} (on every machine that reaches {self.host}: no password protects it)"
        forward = f"ssh -L {self.port}:{LOCAL}:{self.port} {platform.node()}"
        return f"viewer: {self.url} (bound to {LOCAL}; from another machine: {forward}, then the same address)"

    def check_free(self, flag: str) -> None:
        """Nothing is listening there yet.

        Args:
          flag: where the port was named, for the message.

        Raises:
          UserError: the port is taken, or the host is none of this machine's.
        """
        reason = self._refusal(self.port)
        if reason == errno.EADDRINUSE:
            later = range(self.port + 1, min(self.port + TRIED, 2**16))
            free = next((port for port in later if not self._refusal(port)), None)
            raise UserError(f"port {self.port} is in use; " + (f"{flag}={free} is free" if free else f"set {flag}"))
        if reason:
            raise UserError(f"cannot listen on {self.host}:{self.port}: {errno.errorcode.get(reason, reason)}")

    def _refusal(self, port: int) -> int:
        """Why the system gives us no socket there, an errno; 0 if it does."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self.host, port))
                return 0
            except OSError as error:
                return error.errno or errno.EINVAL
