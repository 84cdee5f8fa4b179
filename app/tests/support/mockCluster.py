"""librdkafka's own cluster of mock brokers, driven through the library that confluent-kafka brings."""
import ctypes
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import KafkaError

CLIENT = 0  # a kind of it: rd_kafka_new() takes PRODUCER or CONSUMER
PRODUCE, FETCH, OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT = 0, 1, 8, 10, 11, 12  # of Kafka's protocol
INIT_PRODUCER_ID = 22


def load():
    """Return the library inside the installed package; skip the test where it is not found."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    if not found:
        pytest.skip(f"the mock cluster needs librdkafka as a library of its own beside {package}")
    library = ctypes.CDLL(str(found[0]))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class MockCluster:
    """Brokers 1 to n, whose topics have 4 partitions; any client on this machine can connect."""

    def __init__(self, brokers=1):
        self.library = load()
        error = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(self.library.rd_kafka_conf_new())
        for key, value in ((b"log_level", b"0"), (b"bootstrap.servers", b"127.0.0.1:1")):
            self.library.rd_kafka_conf_set(conf, key, value, error, ctypes.c_size_t(512))
        self.client = ctypes.c_void_p(self.library.rd_kafka_new(CLIENT, conf, error, ctypes.c_size_t(512)))
        self.cluster = ctypes.c_void_p(self.library.rd_kafka_mock_cluster_new(self.client, brokers))
        self.bootstrap = self.library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()
        self.hesitate(0)  # by default a group's first member waits 3 s for others

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.library.rd_kafka_mock_cluster_destroy(self.cluster)
        self.library.rd_kafka_destroy(self.client)

    def call(self, name, *arguments):
        """Call a function of the mock cluster; raise RuntimeError if it fails."""
        words = [text.encode() if isinstance(text, str) else text for text in arguments]
        failed = getattr(self.library, f"rd_kafka_mock_{name}")(self.cluster, *words)
        if failed:
            raise RuntimeError(f"{name}{arguments}: {failed}")

    def advertise(self, host, port):
        """Have the first broker send its clients to an address."""
        self.library.rd_kafka_mock_broker_set_host_port(self.cluster, ctypes.c_int32(1), host.encode(), int(port))

    def topic(self, name, partitions=4, replicas=1):
        """Create a topic. Partition n is led by broker 1 + n modulo the number of brokers."""
        self.call("topic_create", name, partitions, replicas)
        brokers = len(self.bootstrap.split(","))
        for number in range(partitions):
            self.leader(name, number, 1 + number % brokers)

    def down(self, broker):
        """Take a broker away: its connections end, and it takes no new ones."""
        self.call("broker_set_down", broker)

    def up(self, broker):
        """Bring a broker back."""
        self.call("broker_set_up", broker)

    def delay(self, broker, milliseconds):
        """Have a broker take so long for each answer."""
        self.call("broker_set_rtt", broker, milliseconds)

    def leader(self, topic, partition, broker):
        """Have a broker lead a partition, -1 for nobody."""
        self.call("partition_set_leader", topic, partition, broker)

    def hesitate(self, milliseconds):
        """Have a group wait so long for others after its first member."""
        self.library.rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster, milliseconds)

    def refuse(self, request, error, times=10000):
        """Have all brokers answer so many requests of a kind with an error."""
        self.library.rd_kafka_mock_push_request_errors_array(
            self.cluster, ctypes.c_int16(request), ctypes.c_size_t(times), (ctypes.c_int * times)(*[error] * times))

    def linger(self, request, milliseconds):
        """Have the first broker take so long for its next answer to a request of a kind."""
        self.library.rd_kafka_mock_broker_push_request_error_rtts(
            self.cluster, ctypes.c_int32(1), ctypes.c_int16(request), ctypes.c_size_t(1), 0, milliseconds)

    def accept(self, request):
        """Have all brokers answer requests of a kind as usual again."""
        self.library.rd_kafka_mock_clear_request_errors(self.cluster, ctypes.c_int16(request))

    def forget(self, topic):
        """Have all brokers not know a topic."""
        self.library.rd_kafka_mock_topic_set_error(self.cluster, topic.encode(), KafkaError.UNKNOWN_TOPIC_OR_PART)

    def remember(self, topic):
        """Have all brokers know a topic again."""
        self.library.rd_kafka_mock_topic_set_error(self.cluster, topic.encode(), 0)
