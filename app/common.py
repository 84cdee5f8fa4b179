"""What both scripts share: the flags of a connection, the wait for a broker, the terminal and the signals."""
import argparse
import contextlib
import functools
import os
import re
import signal
import socket
import sys
import time

DEFAULT_SERVER = "localhost:9092"
STOP_SECONDS = 4     # after a signal: what takes longer is given up, as by a second signal
SILENCE_SECONDS = 2  # of a broker, after which it is asked whether it is there
CONNECT_SECONDS = 10
GONE_SECONDS = 10    # a topic that was there is unknown to a starting broker for a while
TOPIC_SECONDS = 3    # a topic that is just being created is unknown for a moment
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]


class Failure(Exception):
    """The run cannot go on; the text says what was tried and what to do next, in a line or two."""


class Stopped(BaseException):
    """A signal ended a wait that nothing else would have ended."""


def number(kind, least):
    """Return an argparse type for numbers of a kind, int or float, from least up to what 64 bits hold."""
    def convert(text):
        with contextlib.suppress(ValueError):
            if least <= kind(text) < 2 ** 63:
                return kind(text)
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a {'whole ' * (kind is int)}number of at least {least}")
    return convert


def topicName(text):
    """Argparse type: a name that Kafka allows for a topic."""
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", text) or text in (".", ".."):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no topic's name: 1 to 249 letters, digits, '.', '_' and '-'")
    return text


def serverList(text):
    """Argparse type: HOST:PORT, or several with commas between them."""
    servers = [server.strip() for server in text.split(",") if server.strip()]
    for server in servers or [text]:
        match = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::([0-9]{1,5}))?", server)
        if not match or not 1 <= int(match[1] or 9092) <= 65535:
            raise argparse.ArgumentTypeError(f"{server.split('@')[-1][:80]!r} is not HOST:PORT")  # no password of a URL
    return ",".join(servers)


def keyValue(text):
    """Argparse type: KEY=VALUE as a pair. A malformed one may hold a password, so the error does not repeat it."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[a-z0-9._]+", key):
        raise argparse.ArgumentTypeError("a property is KEY=VALUE, such as security.protocol=SASL_SSL")
    if key in ("bootstrap.servers", "metadata.broker.list"):  # librdkafka's two names for it
        return "bootstrap.servers", serverList(value)
    return key, value


def propertyFile(path):
    """Argparse type: the pairs of a file with key=value a line and # comments."""
    place, pairs = path, []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for count, line in enumerate(file.read(1000000).split("\n"), 1):
                place = f"{path}, line {count}"
                if line.strip() and not line.strip().startswith("#"):
                    pairs.append(keyValue(line))
        return pairs
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{place}: {error}")
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {getattr(error, 'strerror', None) or 'not text in UTF-8'}")


def createParser(name, purpose, examples):
    """Return (parser, its connection group) with the flags that both scripts have."""
    parser = argparse.ArgumentParser(
        prog=name, usage=f"python {name}.py -t TOPIC [options]", description=purpose, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    group = parser.add_argument_group(
        "connection", "The server is the first that is set of: bootstrap.servers by -X, the same in the file of -F,\n"
        "the environment variable BOOTSTRAP_SERVERS (as in the container), -b, and the default of -b.")
    group.add_argument("-t", "--topic", required=True, type=topicName, metavar="TOPIC", help="name of the topic")
    group.add_argument("-b", "--bootstrap", type=serverList, metavar="HOST:PORT",
                       help=f"bootstrap server (default: {DEFAULT_SERVER})")
    group.add_argument("-X", "--property", action="append", default=[], type=keyValue, metavar="KEY=VALUE",
                       help="any librdkafka property; may be repeated; for passwords use -F")
    group.add_argument("-F", "--config", action="append", default=[], type=propertyFile, metavar="FILE",
                       help="file of such properties: key=value a line, # comments")
    return parser, group


def parse(parser, console, argv):
    """Return the parsed arguments."""
    with console.interruptible():  # a file of -F may be a pipe that nobody writes to
        args, rest = parser.parse_known_args(argv)
    if rest:  # unnamed: a blank after "sasl.password=" makes the password one of them
        parser.error(f"{len(rest)} arguments more than understood; what holds blanks needs quotes")
    return args


def configure(parser, console, args, defaults, reserved):
    """Return librdkafka's configuration: defaults, over them -F, over it -X; reserved: {key: why it is not free}."""
    given = dict([pair for pairs in args.config for pair in pairs] + args.property)
    console.secrets = [word for key, value in given.items() if re.search(r"password|secret|oauth|\.pem", key)
                       for word in {value, *value.split()} if word]
    for key in given.keys() & {"default.topic.config", "error_cb", "logger", *reserved}:
        parser.error(f"property {key} cannot be set: {reserved.get(key, 'it is no text')}")
    server, variable = args.bootstrap or DEFAULT_SERVER, os.environ.get("BOOTSTRAP_SERVERS")
    if variable and "bootstrap.servers" not in {*given, *reserved}:
        try:
            server = serverList(variable)
        except argparse.ArgumentTypeError as error:
            parser.error(f"environment variable BOOTSTRAP_SERVERS: {error}")
    conf = {"bootstrap.servers": server, "client.id": socket.gethostname(), "log_level": 0,
            "metadata.recovery.strategy": "none", "reconnect.backoff.max.ms": 1000, **defaults, **given}
    for key, value in conf.items():
        if not re.fullmatch(r"[^\0\ud800-\udfff]*", str(value)):
            parser.error(f"property {key} is not text in UTF-8")
    return conf


def createClient(parser, console, kind, conf):
    """Return confluent_kafka's kind of client; what librdkafka refuses in conf is a usage error."""
    import logging

    import confluent_kafka  # here, because loading it takes longer than --help may take
    if conf["log_level"] == 0 and "debug" not in conf:  # the log would scroll the terminal away in an outage,
        conf["logger"] = logging.getLogger("librdkafka")  # and what matters of it comes to error_cb as well
        conf["logger"].addHandler(logging.NullHandler())
        conf["logger"].propagate = False
    try:
        return getattr(confluent_kafka, kind)({**conf, "error_cb": console.onError})
    except confluent_kafka.KafkaException as error:
        parser.error(console.hide(f"configuration: {error.args[0].str()}"))
    except (TypeError, ValueError) as error:
        parser.error(console.hide(f"configuration: {error}"))


def connect(console, client, args, servers):
    """Say which server is used and return when its cluster has the topic; raise Failure where it does not in time."""
    if servers == (args.bootstrap or DEFAULT_SERVER) and not os.environ.get("BOOTSTRAP_SERVERS"):
        console.say("BOOTSTRAP_SERVERS environment variable not set. Using commandline argument for bootstrap server.")
    console.say("Bootstrap servers: " + servers)
    if args.bootstrap not in (None, servers):
        console.note(f"-b {args.bootstrap} is not used: -X, -F or BOOTSTRAP_SERVERS names the server")
    waitForTopic(console, client, servers, args.topic)


def askForTopic(client, topic):
    """Return a topic's metadata by its broker's word, in .error what is wrong with it; raise KafkaException without one."""
    return client.list_topics(topic, timeout=1).topics[topic]


def lookAfter(console, client, topic, since):
    """After a silence find out what it means; return why waiting is of no use, None where it is."""
    from confluent_kafka import KafkaException
    try:
        found = askForTopic(client, topic)
    except KafkaException:
        console.brokerGone(since, console.error.str() if console.error else "no answer")
        return None
    console.brokerBack()
    console.behind = next((f"partition {part.id} has {len(part.isrs)} of {len(part.replicas)} replicas in sync"
                           for part in found.partitions.values() if len(part.isrs) < len(part.replicas)), None)
    if found.error is None or found.error.code() == found.error.LEADER_NOT_AVAILABLE:
        console.missing = None
        return None
    console.missing = console.missing or time.monotonic()
    return f"topic {topic}: {found.error.str()}" if time.monotonic() > console.missing + GONE_SECONDS else None


def waitForTopic(console, client, servers, topic):
    """Return when a broker leads the topic; raise Failure where none answers or it has no such topic, Stopped by a signal."""
    from confluent_kafka import KafkaError, KafkaException
    start, missing = time.monotonic(), None
    while not console.signals:
        with contextlib.suppress(KafkaException):
            error = askForTopic(client, topic).error
            if error is None:
                askForTopic(client, topic)  # by the connection that stays: the first one closes, and the next request
                console.error = None        # would wait half a second for it; and forget what was tried in vain before
                return
            missing = missing or time.monotonic()
            if (error.code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE)
                    or time.monotonic() > missing + TOPIC_SECONDS):
                raise Failure(f"topic {topic} at {servers}: {error.str()}\ncreate it, ask for access to it, or name another with -t")
        console.serve(client.poll, 0.05)
        error = console.error
        if error and error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            raise Failure(f"no access to {servers}: {error.str()}\n"
                          "check security.protocol, sasl.* and ssl.* in the file of -F")
        if time.monotonic() > start + CONNECT_SECONDS:
            why = error.str() if error else "nothing answers as Kafka does; it may want TLS or SASL (security.protocol)"
            raise Failure(f"no Kafka broker at {servers}: {why}\n"
                          "is it running (docker compose ps), and is that its address from here (-b, -X, -F)?")
    raise Stopped


def blockSignals():
    """Keep signals from the calling thread: any that is left while Python ends would let one change the exit status."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class Console:
    """The standard streams of a script, the signals sent to it, and what it says of its broker."""

    def __init__(self, name, interrupted=128 + signal.SIGINT):
        self.name = name
        self.interrupted = interrupted  # exit status after Ctrl-C
        self.secrets = []        # what is never to be printed
        self.signals = []        # their numbers, as they came in
        self.patient = True      # whether the code at hand looks at them itself, and soon
        self.writing = False     # whether it may be stuck in a write
        self.gone = None         # why standard output takes no more
        self.drawn = 0           # width of the progress line on the screen
        self.error = None        # the connection's last error, or its fatal one
        self.behind = None       # what replicas the topic lacks
        self.missing = None      # since when the topic is unknown to a running program, by time.monotonic()
        self.away = None         # since when the broker has been gone, by time.monotonic()

    def run(self, program, argv):
        """Return the exit status of program(console, argv); see to its streams and signals before and after."""
        for descriptor in range(3):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # or a socket would become, say, standard error
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")
        try:
            for number in SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                    signal.signal(number, self.onSignal)
            return program(self, argv)
        except Stopped:
            return self.status()
        except Failure as error:
            self.note(str(error))
            return 1
        except SystemExit as end:  # argparse's, after the help or an error
            self.write("")
            return 1 if self.gone else end.code
        finally:
            blockSignals()

    def onSignal(self, number, _frame):
        """Take note of a signal; raise Stopped where the code at hand would not look at the note."""
        self.signals.append(number)
        if len(self.signals) == 1 and hasattr(signal, "alarm"):
            signal.alarm(STOP_SECONDS)
        if not self.patient or (self.writing and number == getattr(signal, "SIGALRM", None)):
            raise Stopped

    def status(self):
        """Return the exit status of a run that a signal stopped."""
        return self.interrupted if self.signals[0] == signal.SIGINT else 128 + self.signals[0]

    def forgetSignals(self):
        """Go on as if no signal had come in."""
        self.signals.clear()
        if hasattr(signal, "alarm"):
            signal.alarm(0)

    @contextlib.contextmanager
    def interruptible(self):
        """Let a signal raise Stopped, also one that came in before."""
        self.patient = False
        try:
            if self.signals:
                raise Stopped
            yield
        finally:
            self.patient = True

    def write(self, text):
        """Write to standard output at once; keep in self.gone why it failed, or was stuck when STOP_SECONDS were over."""
        self.draw("")
        self.writing = True
        try:
            if not self.gone:
                rest = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
                while rest:  # with PYTHONUNBUFFERED a signal makes Python write a part and drop the others
                    rest = rest[sys.stdout.buffer.write(rest):]
                sys.stdout.flush()
        except (OSError, AttributeError, Stopped) as error:  # AttributeError: there was none from the start
            self.gone = f"standard output is gone: {getattr(error, 'strerror', None) or 'closed'}"
            if sys.stdout:  # what is left in its buffer would fail once more at Python's end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            self.writing = False

    def say(self, *lines):
        """Print lines of the post."""
        self.write("".join(line + "\n" for line in lines))

    def note(self, text):
        """Print a line, or several, on standard error under the script's name."""
        self.draw("")
        with contextlib.suppress(OSError, AttributeError):
            sys.stderr.write("".join(f"{self.name}: {line}\n" for line in self.hide(text).split("\n")))
            sys.stderr.flush()

    def hide(self, text):
        """Return a text without the secrets of the configuration."""
        return functools.reduce(lambda rest, secret: rest.replace(secret, "***"), self.secrets, text)

    def draw(self, text):
        """Put a progress line in place of the last one, where standard error is a terminal."""
        with contextlib.suppress(OSError, AttributeError):
            if (text or self.drawn) and sys.stderr.isatty():
                text = text and f"{self.name}: {text}"[:max(os.get_terminal_size(sys.stderr.fileno()).columns, 20) - 1]
                sys.stderr.write("\r" + " " * self.drawn + "\r" + text)
                sys.stderr.flush()
                self.drawn = len(text)

    def ask(self, question):
        """Return the answer to a question, None where nobody is there to give it; a signal raises Stopped."""
        self.write(question)
        answer = ""
        try:
            if sys.stdin and sys.stdin.isatty() and not self.gone:
                with self.interruptible(), contextlib.suppress(OSError):
                    answer = sys.stdin.readline()
        finally:
            if not (answer.endswith("\n") and sys.stdout.isatty()):  # no Enter was echoed there
                self.write("\n")
        return answer.strip() if answer else None

    def onError(self, error):
        """Take note of an error of the connection: librdkafka's error_cb."""
        if error.code() != error._ALL_BROKERS_DOWN and not (self.error and self.error.fatal()):
            self.error = error

    def serve(self, wait, seconds):
        """Call a client's poll() or flush(), which raise a fatal error where any other comes to error_cb."""
        try:
            wait(seconds)
        except Exception as error:
            from confluent_kafka import KafkaException
            cause = error.__cause__ if isinstance(error, SystemError) else error
            if not isinstance(cause, KafkaException):
                raise
            self.onError(cause.args[0])

    def brokerGone(self, since, why):
        """Say once that the broker has been gone since a time, and why we think so."""
        if not self.away:
            self.away = since
            self.note(f"the broker is gone: {why}")

    def brokerBack(self):
        """Say once that the broker is back, where it was gone."""
        if self.away:
            self.note(f"the broker is back after {time.monotonic() - self.away:.0f} s")
            self.away, self.error = None, None
