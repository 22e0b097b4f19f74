"""Between JAX's runtime and the coordinator: a connection that stays open when the coordinator is gone.

The runtime ends its process, with a C++ stack trace, in the moment in which its connection to the coordinator closes,
and cannot be made to say so instead. Through a relay it never sees that, and `jaxhw.peers` says who is lost.
"""

import contextlib
import socket
import threading


class Relay:
    """Forwards what connects to ``address`` on this host to the coordinator.

    Attributes:
      address: HOST:PORT for the runtime, on the loopback interface.
      broken: set when the coordinator has closed a connection, or takes none.
    """

    def __init__(self, host: str, port: int):
        self._coordinator = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = threading.Event()
        self._kept: list[socket.socket] = []  # a socket that nothing refers to is closed
        threading.Thread(target=self._accept, daemon=True, name="relay").start()

    def _accept(self) -> None:
        while True:
            here, _ = self._listener.accept()
            self._kept.append(here)
            try:
                there = socket.create_connection(self._coordinator)
            except OSError:
                self.broken.set()
                continue
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._outwards, args=(here, there), daemon=True, name="relay").start()
            threading.Thread(target=self._inwards, args=(there, here), daemon=True, name="relay").start()

    def _outwards(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            _copy(here, there)
            there.shutdown(socket.SHUT_WR)

    def _inwards(self, there: socket.socket, here: socket.socket) -> None:
        with contextlib.suppress(OSError):
            _copy(there, here)
        self.broken.set()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(2**16):
        sink.sendall(data)
