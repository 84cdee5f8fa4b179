"""A way to a broker that a test can change."""
import contextlib
import socket
import threading


class Forwarder:
    """A TCP port that leads to another one, which may change, as may the most bytes that get through at once."""

    def __init__(self, port):
        self.target, self.most, self.ends = port, 65536, []
        self.port = 0
        self.open()

    def open(self):
        """Take connections, at the same port as before."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def close(self):
        """End all connections, and refuse new ones."""
        for end in [self.listener, *self.ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.ends = []

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self.ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, target):
        with contextlib.suppress(OSError):
            lost = False  # of a connection: what follows a lost packet waits for it
            while data := source.recv(65536):
                lost = lost or len(data) > self.most
                if not lost:
                    target.sendall(data)
        for end in source, target:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def wayTo(cluster):
    """Return the only way to the first broker of a cluster of mock brokers."""
    forwarder = Forwarder(int(cluster.bootstrap.split(",")[0].split(":")[1]))
    cluster.advertise(*forwarder.bootstrap.split(":"))
    return forwarder
