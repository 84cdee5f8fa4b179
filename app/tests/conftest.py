"""How the tests are run, and the servers that they stand on."""
import ctypes
import functools
import signal
import sys

import pytest
from support.grounds import Ground, apache, known, requireKafka
from support.kafka import QUICK, ApacheKafka, ApacheKafka4, waitFor
from support.mockCluster import MockCluster
from support.processes import LIMIT, run
from support.stack import Stack, missing

PR_SET_PDEATHSIG = 1  # of Linux: the signal to get when the parent dies
SERVERS = ("stack", "packageIndex", "threeBrokers", "faultyKafka", "secured", "elsewhere", "strict", "kafka4", "kafka")


def pytest_configure(config):
    """Print the reason of every skip; end each worker with its pytest, for the reaper to see.

    Let no script inherit that a signal is ignored, as it is under nohup and in the background.
    """
    if hasattr(config, "workerinput") and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in signal.SIGHUP, signal.SIGINT:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"


def pytest_xdist_auto_num_workers(config):
    """Return how many workers there are: quick tests mostly wait, servers need the two cores."""
    return 8 if config.option.markexpr == "quick" else 4


def serverOf(item):
    """Return the server that a test needs, None for none."""
    names = set(item.fixturenames)
    if "ground" in names:
        names.add(item.callspec.params["ground"])
    return next((name for name in SERVERS if name in names), None)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups next
def pytest_collection_modifyitems(items):
    """Mark as quick what needs no server. Run the tests of a server first, one after the other."""
    for item in items:
        server = serverOf(item)
        item.add_marker(pytest.mark.xdist_group(server) if server else pytest.mark.quick)
    items.sort(key=lambda item: SERVERS.index(serverOf(item)) if serverOf(item) else len(SERVERS))


@pytest.fixture(scope="session")
def mock():
    """librdkafka's own broker, in this process."""
    with MockCluster() as cluster:
        yield Ground("mock", cluster.bootstrap, cluster)


@pytest.fixture
def faultyMock():
    """A broker of librdkafka's own with a topic called "topic", for one test that has it misbehave."""
    with MockCluster() as cluster:
        cluster.topic("topic")
        yield Ground("mock", cluster.bootstrap, cluster)


@pytest.fixture
def mockCluster():
    """Three brokers of librdkafka's own, for one test."""
    with MockCluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The compose stack, started."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    stack = Stack(tmp_path_factory.mktemp("stack"), functools.partial(Ground, "stack"))
    try:
        stack.compose("up", "-d", "--build", "--wait")
        yield stack
    finally:
        stack.compose("down", "-v", "--rmi", "local")


@pytest.fixture(scope="session")
def packageIndex():
    """The index that pip installs from; skip where it does not answer."""
    ended = run(sys.executable, "-m", "pip", "--retries", "1", "index", "versions", "confluent-kafka")
    if ended.returncode:
        pytest.skip(f"no package can be installed: {' '.join(ended.stderr.split())[-300:]}")


@pytest.fixture(scope="session")
def kafka():
    """Apache Kafka; the tests that stop it use another one."""
    with apache() as ground:
        yield ground


@pytest.fixture(scope="session")
def faultyKafka():
    """Apache Kafka, whose broker may be stopped and started."""
    with apache(options=QUICK) as ground:
        yield ground


@pytest.fixture(scope="session")
def strict():
    """Apache Kafka that creates no topic on demand."""
    with apache(options=QUICK, auto_create_topics_enable="false") as ground:
        yield ground


@pytest.fixture(scope="session")
def elsewhere():
    """Apache Kafka that sends clients to addresses where nobody is: {address: (HOST:PORT that leads to it, a topic)}."""
    requireKafka()
    cluster = ApacheKafka(options=QUICK)
    bootstraps = {address: cluster.broker.mislead(address) for address in ("broker.nowhere.invalid:21003", "127.0.0.1:7")}
    with apache(lambda: cluster) as ground:
        topic = ground.topic()
        yield {address: (bootstrap, topic) for address, bootstrap in bootstraps.items()}


@pytest.fixture(scope="session")
def kafka4():
    """Apache Kafka 4, which needs no ZooKeeper."""
    with apache(ApacheKafka4) as ground:
        yield ground


@pytest.fixture(scope="session")
def threeBrokersOfSession():
    """Apache Kafka with three brokers, which hold each topic three times."""
    with apache(brokers=3, options=QUICK) as ground:
        yield ground


@pytest.fixture
def threeBrokers(threeBrokersOfSession):
    """The same, whole again before each test."""
    brokers = threeBrokersOfSession.cluster.brokers
    for broker in brokers:
        if broker.running():
            broker.resume()
        else:
            broker.start()
    waitFor(lambda: all(len(known(broker).brokers) == 3 for broker in brokers), "all to know all", LIMIT)
    return threeBrokersOfSession


@pytest.fixture(params=["mock", "kafka"])
def ground(request):
    """Each of the two grounds in turn."""
    return request.getfixturevalue(request.param)
