"""Servers on loopback that are no broker."""
import contextlib
import socket
import struct
import threading

held = []  # connections that stay open


@contextlib.contextmanager
def serve(answer, port=0):
    """Serve TCP with a function of a connection, and yield HOST:PORT. Without a port the system chooses one."""
    listener = socket.create_server(("127.0.0.1", port))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    yield "127.0.0.1:%d" % listener.getsockname()[1]
    listener.close()


def mute(connection):
    """Say nothing, and stay."""
    held.append(connection)


def hangUp(connection):
    """Go at once."""
    connection.close()


def garbage(connection):
    """Say what is no word of Kafka's."""
    with contextlib.suppress(OSError):
        connection.sendall(b"\x00\x00\x00\x04garbage" * 10)


def webServer(connection):
    """Say what a web server says to what is no request."""
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def noLogin(connection):
    """Speak as much of Kafka's protocol as it takes to refuse a user of SASL's PLAIN."""
    versions, handshake, authenticate = 18, 17, 36  # kinds of requests
    kinds = struct.pack("!hb", 0, 4) + b"".join(
        struct.pack("!hhhb", kind, 0, most, 0) for kind, most in ((versions, 3), (handshake, 1), (authenticate, 0)))
    answers = {versions: kinds + bytes(5), handshake: struct.pack("!hih", 0, 1, 5) + b"PLAIN",
               authenticate: struct.pack("!hh", 58, 7) + b"go away" + bytes(4)}
    with contextlib.suppress(OSError, struct.error), connection.makefile("rb") as requests:
        while True:
            [size] = struct.unpack("!i", requests.read(4))
            kind, _, number = struct.unpack("!hhi", requests.read(size)[:8])
            connection.sendall(struct.pack("!ii", 4 + len(answers[kind]), number) + answers[kind])
