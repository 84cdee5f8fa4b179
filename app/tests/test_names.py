"""A name server that takes long, as where the first one is dead: the look-up of the server's name gets more time."""
import contextlib
import ctypes
import random
import socketserver
import struct
import subprocess
import threading
import time

import pytest
from support.kafka import freePort, waitFor
from support.processes import LIMIT, Process, complaints

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000  # of Linux: mounts of one's own
A_RECORD, IN = 1, 1  # of the domain name system


def answer(question):
    """Return the answer to a question for an address: 127.0.0.1, and no IPv6 address."""
    end = question.index(b"\0", 12) + 5
    kind = struct.unpack("!H", question[end - 4:end - 2])[0]
    record = struct.pack("!HHHLH", 0xc00c, A_RECORD, IN, 60, 4) + bytes([127, 0, 0, 1]) if kind == A_RECORD else b""
    return question[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(record), 0, 0) + question[12:end] + record


@contextlib.contextmanager
def nameServer(path, seconds):
    """Run a name server that takes so many seconds for each answer. Yield what gives a process that one and no other."""
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            question, server = self.request
            time.sleep(seconds)
            with contextlib.suppress(OSError):
                server.sendto(answer(question), self.client_address)

    def use():
        libc = ctypes.CDLL(None)
        own = libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        assert not own and not libc.mount(str(path).encode(), b"/etc/resolv.conf", None, MS_BIND, None)
    address = "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))
    try:
        server = socketserver.ThreadingUDPServer((address, 53), Handler)
    except OSError as error:
        pytest.skip(f"no name server at {address}: {error}")
    with server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path.write_text(f"nameserver {address}\noptions timeout:30\n")
        yield use
        server.shutdown()


@pytest.mark.waits
def test_slowNameServer(mock, tmp_path):
    """A look-up of 11 s is waited for, and one that never ends for 20 s. If another server has refused, that is the reason.

    All side by side, because it takes long.
    """
    topic, slowName, closed = mock.topic(), f"slow.test:{mock.bootstrap.split(':')[1]}", f"127.0.0.1:{freePort()}"
    mock.publish(topic, "one")
    scripts = ("runProducer", "-l", "-e", 1), ("runConsumer", "-g", topic, "-e", 1)
    with nameServer(tmp_path / "slow", 11) as useSlow, nameServer(tmp_path / "never", 10 * LIMIT) as useNever:
        try:
            slow, never, refused = (
                [Process(script, "-t", topic, "-b", servers, *more, preexec_fn=use) for script, *more in scripts]
                for use, servers in ((useSlow, slowName), (useNever, slowName), (useNever, f"{slowName},{closed}")))
        except subprocess.SubprocessError:
            pytest.skip("only root on Linux can give a process a name server of its own")
        for process in slow:
            assert (process.end(), complaints(process.err)) == (0, [])
        for process in never:
            waitFor(lambda: process.err, "its words", 30)  # noqa: B023
            assert process.end() == 1
            assert process.err[0].endswith(f": no Kafka broker at {slowName}: the look-up of its name takes long\n"), process.err
        for process in refused:
            assert process.end() == 1
            assert f"at {slowName},{closed}: " in process.err[0] and "refused" in process.err[0], process.err
