"""The command line: the flags that both scripts have, the types of flags, and the server."""
import argparse
import contextlib
import os
import re

DEFAULT_SERVER = "localhost:9092"
SERVER_NAMES = "bootstrap.servers", "metadata.broker.list"  # librdkafka knows the server by both
NO_TEXT = re.compile(r".*_cb|on_commit|on_delivery|logger|default\.topic\.config")
SERVER_HELP = """\
The server is the first of these that is set: -X bootstrap.servers=...,
the same property in the file of -F, the environment variable
BOOTSTRAP_SERVERS (the container has it), -b, the default of -b."""


def number(kind, least):
    """Return an argparse type: a number of a kind, int or float, from least to 2^63 - 1."""
    def convert(text):
        with contextlib.suppress(ValueError):
            if least <= kind(text) < 2 ** 63:
                return kind(text)
        name = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a {name} of at least {least}")
    return convert


def utf8(value):
    """Argparse type: text that librdkafka can take. The error does not repeat it."""
    if not re.fullmatch(r"[^\0\ud800-\udfff]*", value):
        raise argparse.ArgumentTypeError("this is not text in UTF-8")
    return value


def topicName(text):
    """Argparse type: a name that Kafka allows for a topic."""
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", text) or text in (".", ".."):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is no topic's name: 1 to 249 letters, digits, '.', '_' and '-'")
    return text


def serverList(text):
    """Argparse type: HOST:PORT, or several with commas between them."""
    servers = [server.strip() for server in text.split(",") if server.strip()]
    for server in servers or [text]:
        match = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::([0-9]{1,5}))?", server)
        if not match or not 1 <= int(match[1] or 9092) <= 65535:
            shown = text.split("@")[-1][:80]  # before the @ of a URL may stand a password
            raise argparse.ArgumentTypeError(f"{shown!r} is not HOST:PORT")
    return ",".join(servers)


def keyValue(text):
    """Argparse type: KEY=VALUE as a pair. It may hold a password: no error repeats it."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[a-z0-9._]+", key):
        raise argparse.ArgumentTypeError(
            "a property is KEY=VALUE, such as security.protocol=SASL_SSL")
    if NO_TEXT.fullmatch(key):
        raise argparse.ArgumentTypeError(f"{key} cannot be set: its value is a function, not text")
    utf8(value)
    if key in SERVER_NAMES:
        return SERVER_NAMES[0], serverList(value)
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
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise argparse.ArgumentTypeError(f"{path}: {reason}")


def createParser(name, purpose, examples):
    """Return (parser, its group "connection") with the flags that both scripts have."""
    parser = argparse.ArgumentParser(
        prog=name, usage=f"python {name}.py -t TOPIC [options]", description=purpose,
        epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    group = parser.add_argument_group("connection", SERVER_HELP)
    group.add_argument("-t", "--topic", required=True, type=topicName, metavar="TOPIC",
                       help="name of the topic; required")
    group.add_argument("-b", "--bootstrap", type=serverList, metavar="HOST:PORT",
                       help=f"bootstrap server (default: {DEFAULT_SERVER})")
    group.add_argument("-X", "--property", action="append", default=[], type=keyValue,
                       metavar="KEY=VALUE",
                       help="set any librdkafka property; may be repeated; put passwords "
                            "into the file of -F instead")
    group.add_argument("-F", "--config", action="append", default=[], type=propertyFile,
                       metavar="FILE",
                       help="read such properties from a file: key=value a line, # comments")
    return parser, group


def parse(parser, argv, console):
    """Return the parsed arguments, and have the console hide secrets. Exit with a usage error.

    Their attribute given has what -F and -X say, {key: value}.
    """
    args, rest = parser.parse_known_args(argv)
    if rest:  # not repeated: after "sasl.password= word" one of them is the password
        parser.error(f"{len(rest)} unknown or extra arguments; a value with blanks needs quotes")
    args.given = dict([pair for pairs in args.config for pair in pairs] + args.property)
    for key, value in args.given.items():
        if re.search(r"password|passphrase|secret|oauthbearer\.config|\.pem$", key):
            console.secrets |= {value, *value.split()} - {""}
    return args


def serverOf(parser, args):
    """Return the server by the environment variable, by -b or by default."""
    variable = os.environ.get("BOOTSTRAP_SERVERS")
    try:
        return serverList(variable) if variable else args.bootstrap or DEFAULT_SERVER
    except argparse.ArgumentTypeError as error:
        parser.error(f"environment variable BOOTSTRAP_SERVERS: {error}")


def tellServers(args, servers, console):
    """Tell the user which servers are used, and whether -b is not."""
    if not os.environ.get("BOOTSTRAP_SERVERS") and servers == (args.bootstrap or DEFAULT_SERVER):
        console.say("BOOTSTRAP_SERVERS environment variable not set. "
                    "Using commandline argument for bootstrap server.")
    console.say(f"Bootstrap servers: {servers}")
    if args.bootstrap not in (None, servers):
        console.note(f"-b {args.bootstrap} is not used: "
                     "-X, -F or BOOTSTRAP_SERVERS names the server")
