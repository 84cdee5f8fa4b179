"""The command line: the flags that both scripts have, the types of flags, and what they set."""
import argparse
import decimal
import os
import re

DEFAULT_SERVER = "localhost:9092"
SERVER_HELP = """\
The server: -X bootstrap.servers=..., else the same in the file of -F,
else the variable BOOTSTRAP_SERVERS (the container has it), else -b."""


class Default(int):
    """The default of a flag that takes a number. One that was typed is a plain number."""


def typed(args, flags):
    """Return those of {flag: its name in args} that were typed. They need a Default."""
    return [flag for flag, name in flags.items() if not isinstance(getattr(args, name), Default)]


def matching(pattern, what, convert=str):
    """Return an argparse type: text of a pattern, converted. what: words for it, in an error."""
    def check(text):
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not {what}")
        return convert(text)
    return check


# Eighteen digits fit into 64 bits.
count = matching("[0-9]{1,18}", "a whole number of at least 0", int)
positive = matching("0*[1-9][0-9]{0,17}", "a whole number of at least 1", int)
seconds = matching(r"[0-9]{0,9}\.?[0-9]{1,9}(e[0-9]{1,2})?", "a number of at least 0", float)
# Printed as they were typed, which a float is not.
milliseconds = matching(r"[0-9]{1,18}|[0-9]{0,9}\.[0-9]{1,6}",
                        "a number of at least 0, with up to 6 decimals", decimal.Decimal)
wholeNumber = matching("-?[0-9]{1,99}", "a whole number", int)
topicName = matching(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}",
                     "a topic's name: 1 to 249 letters, digits, '.', '_' and '-'")


def numberFor(names):
    """Return an argparse type: NAME=VALUE, one of the names and a whole number, as a pair."""
    def check(text):
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in names or not re.fullmatch("-?[0-9]{1,99}", value):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not NAME=VALUE with a whole number "
                                             f"and one of the names {', '.join(names)}")
        return name, int(value)
    return check


def serverList(text):
    """Argparse type: HOST:PORT, or several with commas between them."""
    servers = [server.strip() for server in text.split(",") if server.strip()]
    for server in servers or [text]:
        match = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::([0-9]{1,5}))?", server)
        if not match or not 1 <= int(match[1] or 9092) <= 65535:
            shown = text.split("@")[-1][:80]  # a URL may hold a password before its @
            raise argparse.ArgumentTypeError(f"{shown!r} is not HOST:PORT")
    return ",".join(servers)


def keyValue(text):
    """Argparse type: KEY=VALUE as a pair. It may hold a password: no error repeats it."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"(?!on_)[a-z0-9._]+", key):
        raise argparse.ArgumentTypeError("a property is KEY=VALUE, such as linger.ms=5")
    if key in ("bootstrap.servers", "metadata.broker.list"):  # the library knows both names
        return "bootstrap.servers", serverList(value)
    return key, value


def propertyFile(path):
    """Argparse type: the pairs of a file with key=value a line and # comments."""
    place, pairs = path, []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file.read(1000000).split("\n"), 1):  # some have no end
                place = f"{path}, line {number}"
                if line.strip() and not line.strip().startswith("#"):
                    pairs.append(keyValue(line))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{place}: {error}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise argparse.ArgumentTypeError(f"{path}: {reason}")
    return pairs


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
                       metavar="KEY=VALUE", help="any librdkafka property; repeatable")
    group.add_argument("-F", "--config", action="extend", default=[], type=propertyFile,
                       metavar="FILE", help="a file of them, also for passwords: key=value a line")
    return parser, group


def properties(args):
    """Return what -F and -X say, {key: value}, with the server. Raise ValueError if it is wrong."""
    variable = os.environ.get("BOOTSTRAP_SERVERS")
    try:
        server = serverList(variable) if variable else args.bootstrap or DEFAULT_SERVER
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"environment variable BOOTSTRAP_SERVERS: {error}")
    return {"bootstrap.servers": server, **dict(args.config + args.property)}


def sayServers(args, servers, terminal):
    """Say which servers are used, and tell the user where -b is not."""
    if not os.environ.get("BOOTSTRAP_SERVERS") and servers == (args.bootstrap or DEFAULT_SERVER):
        terminal.say("BOOTSTRAP_SERVERS environment variable not set. "
                     "Using commandline argument for bootstrap server.")
    terminal.say(f"Bootstrap servers: {servers}")
    if args.bootstrap not in (None, servers):
        terminal.tell(f"-b {args.bootstrap} is not used: "
                      "-X, -F or BOOTSTRAP_SERVERS names the server")
