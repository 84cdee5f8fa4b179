"""How the tests are run, and the servers that they stand on."""
import ctypes
import functools
import signal
import sys

import pytest
from support.grounds import Ground, apache, known
from support.kafka import RELEASE4, ApacheKafka, freePort, waitFor
from support.mockCluster import MockCluster
from support.processes import LIMIT, run
from support.stack import Stack, missing

PR_SET_PDEATHSIG = 1  # of Linux: the signal to get when the parent dies
SERVERS = ("stack", "packageIndex", "threeBrokers", "faultyKafka", "secured", "elsewhere", "strict", "kafka4", "kafka")


def pytest_configure(config):
    """Print the reason of every skip; end each worker with its pytest.

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
    return 12 if config.option.markexpr == "quick" else 6


def serverOf(item):
    """Return the server that a test needs, None for none."""
    names = set(item.fixturenames)
    if "ground" in names:
        names.add(item.callspec.params["ground"])
    return next((name for name in SERVERS if name in names), None)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups next
def pytest_collection_modifyitems(items):
    """Mark as quick what needs no server. Run the tests of a server first, one after the other, then those that wait long."""
    for item in items:
        server = serverOf(item)
        item.add_marker(pytest.mark.xdist_group(server) if server else pytest.mark.quick)

    def place(item):
        server = serverOf(item)
        return SERVERS.index(server) if server else len(SERVERS), item.get_closest_marker("waits") is None
    items.sort(key=place)


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
    with Stack(tmp_path_factory.mktemp("stack"), functools.partial(Ground, "stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def packageIndex():
    """The index that pip installs from; skip where it does not answer."""
    ended = run(sys.executable, "-m", "pip", "--retries", "1", "index", "versions", "confluent-kafka")
    if ended.returncode:
        pytest.skip(f"no package can be installed: {' '.join(ended.stderr.split())[-300:]}")


def clusterOf(name, **options):
    """Return a fixture: Apache Kafka for all tests of a worker. options: of ApacheKafka."""
    @pytest.fixture(scope="session", name=name)
    def cluster(tmp_path_factory):
        with apache(ApacheKafka(tmp_path_factory.mktemp(name), **options)) as ground:
            yield ground
    return cluster


kafka = clusterOf("kafka", options=())  # fast; the tests that stop a broker use another one
faultyKafka = clusterOf("faultyKafka", broker_session_timeout_ms=6000)
strict = clusterOf("strict", auto_create_topics_enable="false")
kafka4 = clusterOf("kafka4", release=RELEASE4)
threeBrokersOfSession = clusterOf("threeBrokersOfSession", brokers=3, broker_session_timeout_ms=6000)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Apache Kafka that sends clients to addresses where nobody is: {address: (HOST:PORT that leads to it, a topic)}."""
    cluster, bootstraps = ApacheKafka(tmp_path_factory.mktemp("elsewhere")), {}
    for name, address in ("ELSEWHERE", "broker.nowhere.invalid:21003"), ("NOWHERE", "127.0.0.1:7"):
        bootstraps[address] = f"127.0.0.1:{freePort()}"
        cluster.broker.addListener(name, bootstraps[address], address)
    with apache(cluster) as ground:
        topic = ground.topic()
        yield {address: (bootstrap, topic) for address, bootstrap in bootstraps.items()}


@pytest.fixture
def threeBrokers(threeBrokersOfSession):
    """Three brokers, which hold each topic three times: whole again before each test."""
    cluster = threeBrokersOfSession.cluster
    for broker in cluster.brokers:
        broker.resume()
    cluster.start()
    waitFor(lambda: all(len(known(broker).brokers) == 3 for broker in cluster.brokers), "all to know all", LIMIT)
    return threeBrokersOfSession


@pytest.fixture(params=["mock", "kafka"])
def ground(request):
    """Each of the two grounds in turn."""
    return request.getfixturevalue(request.param)
