"""A cluster that asks who is there: Apache Kafka with TLS, SASL and access control. No password is ever printed."""
import pytest
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient,
                                   ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism,
                                   UserScramCredentialUpsertion)
from support.grounds import Ground, requireKafka
from support.kafka import ApacheKafka, freePort
from support.processes import LIMIT, Process, environment, finished, run

# A user logs in by the mechanism. The spinner may do what a test allows it, the guest no more than look at topics.
USERS = {"spinner": ("SCRAM-SHA-256", "Lucky-Wheel-7531"), "guest": ("PLAIN", "Empty-Purse-2468")}
WRONG = "Forged-Coin-9999"
SCRIPTS = ["runProducer", "runConsumer"]
LOOP = "-l", "-e", 100, "-m", 0, "-x", 0


def keytool(folder, store, *arguments):
    """Run the JDK's keytool on a key store in the folder."""
    run("keytool", *arguments, "-keystore", f"{store}.p12", "-storetype", "PKCS12", "-storepass", "storepass", cwd=folder, check=True)


def makeCertificates(folder):
    """Make two authorities, ca.pem and other.pem, and broker.p12: the key of 127.0.0.1, certified by the first."""
    for name in "ca", "other":
        keytool(folder, name, "-genkeypair", "-alias", name, "-keyalg", "RSA", "-dname", f"CN={name}", "-ext", "bc:c")
        keytool(folder, name, "-exportcert", "-alias", name, "-rfc", "-file", f"{name}.pem")
    keytool(folder, "broker", "-genkeypair", "-alias", "broker", "-keyalg", "RSA", "-dname", "CN=broker")
    keytool(folder, "broker", "-certreq", "-alias", "broker", "-file", "broker.csr")
    keytool(folder, "ca", "-gencert", "-alias", "ca", "-infile", "broker.csr", "-outfile", "broker.pem", "-rfc",
            "-ext", "san=ip:127.0.0.1")
    keytool(folder, "broker", "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem")
    keytool(folder, "broker", "-importcert", "-alias", "broker", "-file", "broker.pem")


class Secured(Ground):
    """A broker with a PLAINTEXT listener, where all is allowed, one of SASL_SSL with access control, and one of SSL.

    The last one asks its clients for a certificate.
    """

    def __init__(self, cluster, folder):
        super().__init__("apache", cluster.bootstrap)
        self.cluster, self.folder, self.secured, self.mutual = cluster, folder, cluster.secured, cluster.mutual

    def properties(self, user="spinner", **changes):
        """Return what a user needs to connect; names in changes have underscores for dots."""
        mechanism, password = USERS[user]
        return {"bootstrap.servers": self.secured, "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism,
                "sasl.username": user, "sasl.password": password, "ssl.ca.location": str(self.folder / "ca.pem"),
                **{key.replace("_", "."): value for key, value in changes.items()}}

    def file(self, path, *arguments, **changes):
        """Write the properties to a file as a user does and return its path."""
        pairs = self.properties(*arguments, **changes)
        path.write_text("# of the cluster\n\n" + "".join(f"{key} = {value}\n" for key, value in pairs.items()))
        return path

    def allow(self, kind, name, *operations, user="spinner"):
        """Allow a user operations on a topic or a group."""
        for operation in operations:
            rule = AclBinding(getattr(ResourceType, kind), name, ResourcePatternType.LITERAL, f"User:{user}", "*",
                              getattr(AclOperation, operation), AclPermissionType.ALLOW)
            self.admin.create_acls([rule])[rule].result(LIMIT)

    def forbid(self, topic):
        """Take back whatever was allowed on a topic."""
        taken = AclBindingFilter(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, None, None, AclOperation.ANY,
                                 AclPermissionType.ANY)
        assert all(made.result(LIMIT) for made in self.admin.delete_acls([taken]).values())

    def all(self, user="spinner"):
        """Return a new topic, also a group's name, that a user may use as it likes."""
        topic = self.topic()
        self.allow("TOPIC", topic, "WRITE", "READ", user=user)
        self.allow("GROUP", topic, "READ", user=user)
        return topic


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A secured cluster of this module's own, and its users."""
    requireKafka()
    folder = tmp_path_factory.mktemp("certificates")
    makeCertificates(folder)
    cluster = ApacheKafka(folder, ssl_keystore_location=folder / "broker.p12", ssl_keystore_password="storepass",
                          ssl_keystore_type="PKCS12", super_users="User:ANONYMOUS",
                          authorizer_class_name="org.apache.kafka.metadata.authorizer.StandardAuthorizer")
    cluster.secured, cluster.mutual = (f"127.0.0.1:{freePort()}" for _ in range(2))
    cluster.broker.addListener("SASL_SSL", cluster.secured)
    cluster.broker.addListener("SSL", cluster.mutual)
    modules = "listener.name.sasl_ssl.{}.sasl.jaas.config", "org.apache.kafka.common.security.{}LoginModule required{};"
    cluster.broker.properties.update({
        "listener.name.ssl.ssl.client.auth": "required",
        "ssl.truststore.location": folder / "broker.p12", "ssl.truststore.password": "storepass", "ssl.truststore.type": "PKCS12",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
        modules[0].format("scram-sha-256"): modules[1].format("scram.Scram", ""),
        modules[0].format("plain"): modules[1].format("plain.Plain", f' user_guest="{USERS["guest"][1]}"')})
    with cluster:
        ground = Secured(cluster, folder)
        added = ground.admin.alter_user_scram_credentials([UserScramCredentialUpsertion(
            "spinner", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), USERS["spinner"][1].encode())])
        added["spinner"].result(LIMIT)
        for user in USERS:  # the broker hears of new credentials a moment later
            AdminClient({**ground.properties(user), "log_level": 0}).list_topics(timeout=LIMIT)
        yield ground


def checkWords(out, err):
    """Require of what a script printed: no password, no traceback, no raw line of the library's log."""
    for password in [WRONG, *(password for _, password in USERS.values())]:
        assert password not in out + err
    assert "Traceback" not in err and "Exception ignored" not in err
    assert not any(line.startswith("%") for line in (out + err).splitlines())


def runQuietly(script, *arguments, **options):
    """Run a script to its end and return that, its words checked."""
    ended = run(script, *arguments, **options)
    checkWords(ended.stdout, ended.stderr)
    return ended


def produceAndConsume(topic, *arguments, **options):
    """Publish 100 events and receive them, with the same arguments, with nothing to complain of."""
    producer = runQuietly("runProducer", "-t", topic, *LOOP, *arguments, **options)
    assert (producer.returncode, producer.stderr) == (0, "") and "Finished publishing: 100 messages." in producer.stdout
    consumer = runQuietly("runConsumer", "-t", topic, "-g", topic, "-e", 100, "--timeout", 60, *arguments, **options)
    assert (consumer.returncode, consumer.stderr) == (0, "")
    assert sum(line.startswith("Received message: ") for line in consumer.stdout.splitlines()) == 100
    return producer, consumer


def refused(script, *arguments):
    """Run a script that cannot do its work, and return the one or two lines on stderr that say why."""
    ended = runQuietly(script, *arguments)
    assert "Message produced" not in ended.stdout and "Received message" not in ended.stdout
    lines = ended.stderr.splitlines()
    assert ended.returncode == 1 and len(lines) in (1, 2), (ended.returncode, lines)
    assert all(line.startswith(f"{script}: ") for line in lines), lines
    return ended.stderr


@pytest.mark.parametrize("user", USERS)
def test_file(secured, tmp_path, user):
    topic, path = secured.all(user), secured.file(tmp_path / "cluster.properties", user)
    try:
        ends = produceAndConsume(topic, "-F", path, env=environment(BOOTSTRAP_SERVERS="127.0.0.1:1"))
    finally:
        secured.forbid(topic)  # test_noRight needs a guest who may write nowhere
    assert secured.count(topic) == 100
    assert all(f"Bootstrap servers: {secured.secured}\n" in ended.stdout for ended in ends)


@pytest.mark.parametrize("blank", ["", " "])
def test_propertyOverFile(secured, tmp_path, blank):
    topic, password = secured.all(), secured.properties()["sasl.password"]
    path = secured.file(tmp_path / "cluster.properties", bootstrap_servers="127.0.0.1:1", sasl_password=WRONG)
    produceAndConsume(topic, "-F", path, "-X", f"bootstrap.servers={secured.secured}", "-X", f"sasl.password={blank}{password}")
    assert secured.count(topic) == 100


NO_ACCESS = "no access to {secured.secured}: "
TLS = {"bootstrap_servers": "{secured.mutual}", "security_protocol": "SSL"}  # whose broker wants a certificate
OTHER = {"ssl_keystore_location": "{secured.folder}/other.p12", "ssl_keystore_password": "storepass"}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("user, changes, words", [
    *((user, {"sasl_password": WRONG}, [NO_ACCESS, "uthentication"]) for user in USERS),
    ("spinner", {"ssl_ca_location": "{secured.folder}/other.pem"}, [NO_ACCESS, "certificate verify failed", "ssl.*"]),
    ("spinner", {"sasl_mechanism": "SCRAM-SHA-512"}, [NO_ACCESS, "SCRAM-SHA-512"]),
    *(("spinner", changes, ["no access to {secured.mutual}: ", "certificate"]) for changes in (TLS, {**TLS, **OTHER})),
    ("spinner", {"security_protocol": "PLAINTEXT"}, ["{secured.secured}", "security.protocol"])])
def test_noAccess(secured, tmp_path, script, user, changes, words):
    changes = {key: value.format(secured=secured) for key, value in changes.items()}
    said = refused(script, "-t", secured.all(), "-F", secured.file(tmp_path / "cluster.properties", user, **changes))
    assert all(word.format(secured=secured) in said for word in words), said


@pytest.mark.parametrize("script, user, onTopic, onGroup, words", [
    ("runProducer", "spinner", [], [], ["topic {topic} at {secured.secured}: ", "Topic authorization failed"]),
    ("runProducer", "spinner", ["DESCRIBE"], [], ["100 produced, 0 delivered, 100 failed: ", "Topic authorization failed"]),
    ("runProducer", "guest", ["DESCRIBE"], [], ["100 produced, 0 delivered, 100 failed: ", "Cluster authorization failed"]),
    ("runConsumer", "spinner", [], ["READ"], ["{topic}", "Topic authorization failed"]),
    ("runConsumer", "spinner", ["DESCRIBE"], ["READ"], ["{topic}", "Topic authorization failed"]),
    ("runConsumer", "spinner", ["READ"], [], ["{group}", "Group authorization failed"])])
def test_noRight(secured, tmp_path, script, user, onTopic, onGroup, words):
    secured.all()  # what is allowed elsewhere helps nobody here
    topic = secured.topic()
    group = topic.replace("test", "group")
    secured.publish(topic, "a value that must not be shown")
    secured.allow("TOPIC", topic, *onTopic, user=user)
    secured.allow("GROUP", group, *onGroup)
    for flags in [LOOP] if script == "runProducer" else [("-g", group), ("-g", group, "-e", 1, "--timeout", 30)]:
        said = refused(script, "-t", topic, "-F", secured.file(tmp_path / "cluster.properties", user), *flags)
        assert all(word.format(topic=topic, group=group, secured=secured) in said for word in words), said
    assert secured.count(topic) == 1


def test_accessTakenBackUnderWay(secured, tmp_path):
    topic, path = secured.all(), secured.file(tmp_path / "cluster.properties")
    with Process("runProducer", "-t", topic, "-F", path, "-l", "-e", 0, "-m", 1, "-x", 1) as producer, \
            Process("runConsumer", "-t", topic, "-F", path, "-g", topic) as consumer:
        producer.until("Message produced")
        consumer.until("Received message")
        secured.forbid(topic)
        assert producer.end() == 1 and consumer.end() == 1
    for process in producer, consumer:
        checkWords("".join(process.out), "".join(process.err))
        assert "Broker: Topic authorization failed" in "".join(process.err), process.err
    assert len(producer.err) == 1
    [reason, advice] = consumer.err
    assert f": topic {topic}, group {topic}: " in reason and "ask for access" in advice
    assert finished(producer.out) == secured.count(topic) >= len(consumer.shown()) >= 1
