"""A way to a broker that a test can change."""
import contextlib
import socket
import threading


class Forwarder:
    """A TCP port that leads to another one, which may change, as may the most bytes that get through at once."""

    def __init__(self, port):
        self.target, self.listener, self.most = port, socket.create_server(("127.0.0.1", 0)), 65536
        self.bootstrap = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
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
