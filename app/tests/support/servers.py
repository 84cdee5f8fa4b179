"""Servers on loopback that are no broker."""
import contextlib
import socket
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
