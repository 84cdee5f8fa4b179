"""The compose stack as the post's reader starts and uses it, beside any stack of the same machine."""
import json
import re
import signal
import urllib.error
import urllib.request

import pytest
import yaml
from confluent_kafka.admin import ConfigResource
from support.kafka import waitFor
from support.pairs import pair, reconcile
from support.processes import APP, EXIT, LIMIT, READY, Process, complaints, events, finished, matches
from support.stack import COMPOSE, DOCKERFILE, SERVICES, docker, done

SERVER = "Bootstrap servers: broker:29092"


@pytest.fixture(scope="module")
def written():
    """The compose file as it is written."""
    return yaml.safe_load(COMPOSE.read_text())


def test_writtenServices(written):
    services = written["services"]
    assert services.keys() == SERVICES
    assert all(service["container_name"] == name for name, service in services.items())
    assert all(services[name]["restart"] == "unless-stopped" for name in ("zookeeper", "broker"))
    assert services["event-gen"]["init"] is True
    assert services["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_READONLY"] == "${UI_READONLY:-true}"


def test_writtenImagesArePinned(written):
    images = {name: service["image"] for name, service in written["services"].items() if name != "event-gen"}
    [base] = re.findall(r"^FROM (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    pinned = r"[\w./-]+(:v?\d[\w.-]*|:\$\{\w+:-\d[\w.-]*\}|(:[\w.-]+)?@sha256:[0-9a-f]{64})"
    assert [image for image in [*images.values(), base] if not re.fullmatch(pinned, image)] == []
    assert len({image.partition(":")[2] for image in images.values() if image.startswith("confluentinc/")}) == 1
    assert set(re.findall(r"\$\{?(\w+)", COMPOSE.read_text())) == {
        "CONFLUENT_TAG", "BROKER_PORT", "UI_PORT", "UI_READONLY", "ZOOKEEPER_PORT"}


def test_writtenDockerfileIsForOldBuildersToo():
    assert not re.search("--mount|--chmod|<<", DOCKERFILE.read_text())


def test_configHasNoWarning(stack):
    ended = docker("compose", "-f", COMPOSE, "config", "-q")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_topic(stack):
    assert len(stack.ground.admin.list_topics("gameplay", timeout=LIMIT).topics["gameplay"].partitions) == 4
    topic = ConfigResource(ConfigResource.Type.TOPIC, "gameplay")
    assert stack.ground.admin.describe_configs([topic])[topic].result(LIMIT)["retention.ms"].value == "86400000"


def askUi(stack, path, method="GET"):
    """Ask Kafka UI for a page, and return the answer."""
    request = urllib.request.Request(f"http://localhost:{stack.uiPort}{path}", method=method)
    return urllib.request.urlopen(request, timeout=LIMIT)


def test_kafkaUiIsToLookAtOnly(stack):
    assert b"UP" in askUi(stack, "/actuator/health").read()
    clusters = askUi(stack, "/api/clusters")
    if clusters.headers.get_content_type() != "application/json":
        pytest.skip("the image only stands in for Kafka UI: it has no API")
    assert [cluster["name"] for cluster in json.load(clusters)] == ["local"]
    waitFor(lambda: b'"gameplay"' in askUi(stack, "/api/clusters/local/topics").read(), "the topic in Kafka UI", LIMIT)
    with pytest.raises(urllib.error.HTTPError) as refused:
        askUi(stack, "/api/clusters/local/topics/gameplay", "DELETE")
    assert refused.value.code == 405  # what it answers where a cluster is read-only
    test_topic(stack)


def test_container(stack):
    listing = stack.execute("sh", "-c", "pwd; ls -A")
    rooms = {path.relative_to(APP).parts[0] for path in APP.rglob("*.py")} - {"benchmark", "tests"}
    assert listing.stdout.split() == ["/app", *sorted(rooms | {"requirements.txt"})]
    assert stack.execute("id", "-u").stdout.strip() != "0"


def test_hostsAddressInTheContainerWithoutTerminal(stack):
    unused = "-b localhost:9092 is not used: -X, -F or BOOTSTRAP_SERVERS names the server\n"
    address = "-t", "gameplay", "-b", "localhost:9092"
    ended = stack.execute("python", "runProducer.py", *address, "-l", "-e", "5", "-m", "0", "-x", "0", "-p", "1")
    matches(ended.stdout.split("\n"), [
        "Running in a loop. Number loops: 5 Min latency: 0 Max latency: 0 Printing every 1:th message.",
        READY, SERVER, "Generating and publishing event in loop", *["Message produced: EVENT"] * 5,
        "Finished publishing: 5 messages.", EXIT, ""])
    assert (ended.stderr, ended.returncode) == ("runProducer: " + unused, 0)
    ended = stack.execute("python", "runConsumer.py", *address, "-g", "container", "-e", "5", "--timeout", "60")
    assert len(events(ended.stdout)) == 5 and f"{SERVER}\n" in ended.stdout
    assert (ended.stderr, ended.returncode) == ("runConsumer: " + unused, 0)


def inside(container, *command):
    """Run a command in a container in the background, by docker exec without a terminal."""
    return Process("docker", "exec", container, *command)


def stopped(process):
    """Wait for the end of a process, which has to be that by SIGTERM."""
    assert process.end() == 128 + signal.SIGTERM, (process.out[-5:], process.err)


def checkCount(process):
    """Require that a loop was stopped, and nothing failed. Return how many events it delivered."""
    stopped(process)
    count = finished(process.out)
    assert process.err[-1] == f"runProducer: {count} produced, {count} delivered, 0 failed: stopped by SIGTERM\n"
    return count


LOOP = "python", "runProducer.py", "-t", "gameplay", "-l", "-e", "0", "-m", "1", "-x", "1"
LISTEN = "python", "runConsumer.py", "-t", "gameplay", "-g", "stopped"


def test_stopOfTheStackUnderTheScripts(stack):
    stack.clear()
    try:
        with inside(stack.name("event-gen"), *LOOP) as producer, inside(stack.name("event-gen"), *LISTEN) as consumer:
            consumer.until("Received message: ")
            stack.compose("stop")
            count = checkCount(producer)
            stopped(consumer)
    finally:
        stack.compose("start")
    waitFor(stack.whole, "the stack to be whole again", LIMIT)
    assert (count, complaints(consumer.err), len(producer.err)) == (stack.count(), [], 1)
    shown = consumer.shown()
    if len(shown) < count:  # what was published while the consumer left
        shown += events(stack.execute(*LISTEN, "-e", str(count - len(shown)), "--timeout", "60").stdout)
    assert sorted(shown) == sorted(stack.ground.values("gameplay"))


def test_brokerRestartedUnderAPair(stack):
    topic = stack.ground.topic()
    with pair(stack.ground, topic) as processes:
        stack.compose("restart", "broker")
        reconcile(stack.ground, topic, *processes)


@pytest.mark.parametrize("options", [[], ["--init"]], ids=["plain", "init"])
def test_stopOfTheImageByItself(stack, options):
    container = done("run", "-d", *options, stack.image).strip()
    try:
        with inside(container, *LOOP, "--embedded") as producer:
            producer.until("Message produced: ")
            done("stop", container)
            assert checkCount(producer) > 0
    finally:
        docker("rm", "-f", container)


def test_downAndUpAgain(stack):
    """Also where the broker refuses a new ZooKeeper, as the page says."""
    stack.ground.publish("gameplay", "one")
    done("rm", "-fv", stack.name("zookeeper"))
    stack.compose("up", "-d", "--no-deps", "zookeeper")
    done("restart", stack.name("broker"))
    refused = re.compile(r"Invalid cluster\.id in.*meta\.properties")  # as app/README.md has it
    waitFor(lambda: refused.search(docker("logs", stack.name("broker")).stdout), "the broker's refusal", LIMIT)
    stack.compose("down", "-v")
    assert stack.compose("ps", "-aq") == done("ps", "-aq", "--filter", f"name={stack.project}") == ""
    stack.compose("up", "-d", "--wait")
    assert stack.whole() and stack.count() == 0, stack.containers()


def test_deletedTopicComesBack(stack):
    stack.ground.admin.delete_topics(["gameplay"])["gameplay"].result(LIMIT)
    stack.compose("up", "-d", "--wait")
    assert len(stack.ground.admin.list_topics("gameplay", timeout=LIMIT).topics["gameplay"].partitions) == 4


def test_rightsAndLogs(stack):
    for host in [container["HostConfig"] for container in stack.containers().values()]:
        assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
        assert host["LogConfig"]["Config"]["max-size"] == "10m"
