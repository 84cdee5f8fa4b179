"""The compose stack as the post's reader starts and uses it, beside any stack of the same machine."""
import json
import re
import urllib.error
import urllib.request

import pytest
import yaml
from confluent_kafka.admin import ConfigResource
from support.kafka import waitFor
from support.pairs import pair, reconcile
from support.processes import APP, LIMIT, Process, complaints, events, finished, run
from support.stack import COMPOSE, DOCKERFILE, SERVICES, done

WRITTEN = yaml.safe_load(COMPOSE.read_text())["services"]  # the services as the compose file has them


def test_writtenServices():
    assert WRITTEN.keys() == SERVICES
    assert all(service["container_name"] == name for name, service in WRITTEN.items())
    assert all(WRITTEN[name]["restart"] == "unless-stopped" for name in ("zookeeper", "broker"))
    assert WRITTEN["event-gen"]["init"] is True
    assert WRITTEN["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_READONLY"] == "${UI_READONLY:-true}"


def test_writtenImagesArePinned():
    images = {name: service["image"] for name, service in WRITTEN.items() if name != "event-gen"}
    [base] = re.findall(r"^FROM (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    pinned = r"[\w./-]+(:v?\d[\w.-]*|:\$\{\w+:-\d[\w.-]*\}|(:[\w.-]+)?@sha256:[0-9a-f]{64})"
    assert [image for image in [*images.values(), base] if not re.fullmatch(pinned, image)] == []
    assert len({image.partition(":")[2] for image in images.values() if image.startswith("confluentinc/")}) == 1
    assert set(re.findall(r"\$\{?(\w+)", COMPOSE.read_text())) == {
        "CONFLUENT_TAG", "BROKER_PORT", "UI_PORT", "UI_READONLY", "ZOOKEEPER_PORT"}


def test_writtenDockerfileIsForOldBuildersToo():
    assert not re.search("--mount|--chmod|<<", DOCKERFILE.read_text())


def test_configHasNoWarning(stack):
    ended = run("docker", "compose", "-f", COMPOSE, "config", "-q")
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
    address = "-t", "gameplay", "-b", "localhost:9092"
    unused = "-b localhost:9092 is not used: -X, -F or BOOTSTRAP_SERVERS names the server"
    for script, *more in ("runProducer", "-l"), ("runConsumer", "-g", "container", "--timeout", "60"):
        ended = stack.execute("python", f"{script}.py", *address, "-e", "5", "-p", "1", *more)
        assert len(events(ended.stdout)) == 5 and "Bootstrap servers: broker:29092" in ended.stdout.splitlines()
        assert (complaints(ended.stderr), ended.returncode) == ([f"{script}: {unused}"], 0)


def checkCount(process):
    """Require that SIGTERM ended a loop, and nothing failed. Return how many events it delivered."""
    assert process.end() == 143, (process.out[-5:], process.err)
    count = finished(process.out)
    assert process.err[-1] == f"runProducer: {count} produced, {count} delivered, 0 failed: stopped by SIGTERM\n"
    return count


LOOP = "python", "runProducer.py", "-t", "gameplay", "-l", "-e", "0", "-m", "1", "-x", "1"
LISTEN = "python", "runConsumer.py", "-t", "gameplay", "-g", "stopped"


def test_stopOfTheStackUnderTheScripts(stack):
    stack.clear()
    try:
        inside = "docker", "exec", stack.name("event-gen")
        with Process(*inside, *LOOP) as producer, Process(*inside, *LISTEN) as consumer:
            consumer.until("Received message: ")
            stack.compose("stop")
            count = checkCount(producer)
            assert consumer.end() == 143, (consumer.out[-5:], consumer.err)
    finally:
        stack.compose("start")
    waitFor(stack.whole, "the stack to be whole again", LIMIT)
    assert (count, complaints(consumer.err), len(complaints(producer.err))) == (stack.count(), [], 1)
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
        with Process("docker", "exec", container, *LOOP, "--embedded") as producer:
            producer.until("Message produced: ")
            done("stop", container)
            assert checkCount(producer) > 0
    finally:
        run("docker", "rm", "-f", container)


def test_downAndUpAgain(stack):
    """Also where the broker refuses a new ZooKeeper, as the page says."""
    stack.ground.publish("gameplay", "one")
    done("rm", "-fv", stack.name("zookeeper"))
    stack.compose("up", "-d", "--no-deps", "zookeeper")
    done("restart", stack.name("broker"))
    refused = re.compile(r"Invalid cluster\.id in.*meta\.properties")  # as app/README.md has it
    waitFor(lambda: refused.search(run("docker", "logs", stack.name("broker")).stdout), "the broker's refusal", LIMIT)
    stack.compose("down", "-v")
    assert stack.compose("ps", "-aq") == done("ps", "-aq", "--filter", f"name={stack.project}") == ""
    stack.compose("up", "-d", "--wait")
    assert stack.whole() and stack.count() == 0, stack.containers()


def test_deletedTopicComesBack(stack):
    stack.ground.admin.delete_topics(["gameplay"])["gameplay"].result(LIMIT)
    stack.compose("up", "-d", "--wait")
    test_topic(stack)


def test_rightsAndLogs(stack):
    for host in [container["HostConfig"] for container in stack.containers().values()]:
        assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
        assert host["LogConfig"]["Config"]["max-size"] == "10m"
