"""A cluster that asks who is there: Apache Kafka with TLS, SASL and access control. No password is ever printed."""
import pytest
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient,
                                   ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism,
                                   UserScramCredentialUpsertion)
from support.grounds import Ground, requireKafka
from support.kafka import ApacheKafka, freePort
from support.processes import LIMIT, Process, complaints, environment, events, finished, run

# A user logs in by the mechanism. The spinner may do what a test allows it, the guest no more than look at topics.
USERS = {"spinner": ("SCRAM-SHA-256", "Lucky-Wheel-7531"), "guest": ("PLAIN", "Empty-Purse-2468")}
WRONG = "Forged-Coin-9999"
SCRIPTS = ["runProducer", "runConsumer"]
LOOP = "-l", "-e", 100, "-m", 0, "-x", 0


def makeCertificates(folder):
    """Make two keys for 127.0.0.1: NAME.p12 holds the key, NAME.pem its certificate, which is its own authority."""
    for name in "broker", "other":
        for words in (("-genkeypair", "-keyalg", "RSA", "-dname", f"CN={name}", "-ext", "san=ip:127.0.0.1"),
                      ("-exportcert", "-rfc", "-file", f"{name}.pem")):
            store = "-keystore", f"{name}.p12", "-storetype", "PKCS12", "-storepass", "storepass"
            run("keytool", *words, *store, cwd=folder, check=True)


class Secured(Ground):
    """A broker with a PLAINTEXT listener, where all is allowed, one of SASL_SSL with access control, and one of SSL.

    The last one asks its clients for a certificate.
    """

    def __init__(self, cluster, folder, secured, mutual):
        super().__init__("apache", cluster.bootstrap, cluster)
        self.folder, self.secured, self.mutual = folder, secured, mutual

    def properties(self, user="spinner", **changes):
        """Return what a user needs to connect; names in changes have underscores for dots."""
        mechanism, password = USERS[user]
        return {"bootstrap.servers": self.secured, "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism,
                "sasl.username": user, "sasl.password": password, "ssl.ca.location": str(self.folder / "broker.pem"),
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
    stores = {f"ssl_{store}_{key}": value for store in ("keystore", "truststore") for key, value in (
        ("location", folder / "broker.p12"), ("password", "storepass"), ("type", "PKCS12"))}
    cluster = ApacheKafka(folder, **stores, super_users="User:ANONYMOUS", sasl_enabled_mechanisms="SCRAM-SHA-256,PLAIN",
                          authorizer_class_name="org.apache.kafka.metadata.authorizer.StandardAuthorizer")
    addresses = [f"127.0.0.1:{freePort()}" for _ in range(2)]
    for name, address in zip(("SASL_SSL", "SSL"), addresses):
        cluster.broker.addListener(name, address)
    key, module = "listener.name.sasl_ssl.{}.sasl.jaas.config", "org.apache.kafka.common.security.{}LoginModule required{};"
    cluster.broker.properties.update({
        "listener.name.ssl.ssl.client.auth": "required",
        key.format("scram-sha-256"): module.format("scram.Scram", ""),
        key.format("plain"): module.format("plain.Plain", f' user_guest="{USERS["guest"][1]}"')})
    with cluster:
        ground = Secured(cluster, folder, *addresses)
        added = ground.admin.alter_user_scram_credentials([UserScramCredentialUpsertion(
            "spinner", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), USERS["spinner"][1].encode())])
        added["spinner"].result(LIMIT)
        for user in USERS:  # the broker hears of new credentials a moment later
            AdminClient({**ground.properties(user), "log_level": 0}).list_topics(timeout=LIMIT)
        yield ground


def checkWords(out, err):
    """Require of what a script printed: no password, no traceback, no raw line of the library's log."""
    for secret in [WRONG, *(password for _, password in USERS.values())]:
        assert secret not in out + err
    assert "Traceback" not in err and "Exception ignored" not in err
    assert not any(line.startswith("%") for line in (out + err).splitlines())


def refused(script, *arguments):
    """Run a script that cannot do its work, and return the one or two lines on stderr that say why."""
    ended = run(script, *arguments)
    checkWords(ended.stdout, ended.stderr)
    assert "Message produced" not in ended.stdout and "Received message" not in ended.stdout
    lines = complaints(ended.stderr)
    assert ended.returncode == 1 and len(lines) in (1, 2), (ended.returncode, lines)
    assert all(line.startswith(f"{script}: ") for line in lines), lines
    return ended.stderr


@pytest.mark.parametrize("user, changes, properties", [
    *((user, {}, []) for user in USERS),
    *(("spinner", {"bootstrap_servers": "127.0.0.1:1", "sasl_password": WRONG},
       ["bootstrap.servers={secured.secured}", f"sasl.password={blank}{USERS['spinner'][1]}"]) for blank in ("", " "))])
def test_access(secured, tmp_path, user, changes, properties):
    """By the file of -F, which is stronger than the variable, and by -X, which is stronger than the file."""
    topic, path = secured.all(user), secured.file(tmp_path / "cluster.properties", user, **changes)
    words = ["-t", topic, "-F", path, *(word for text in properties for word in ("-X", text.format(secured=secured)))]
    env = environment(BOOTSTRAP_SERVERS="127.0.0.1:1")
    try:
        producer = run("runProducer", *LOOP, *words, env=env)
        consumer = run("runConsumer", "-g", topic, "-e", 100, "--timeout", 60, *words, env=env)
    finally:
        secured.forbid(topic)  # test_noRight needs a guest who may write nowhere
    for ended in producer, consumer:
        checkWords(ended.stdout, ended.stderr)
        assert (ended.returncode, complaints(ended.stderr)) == (0, [])
        assert f"Bootstrap servers: {secured.secured}\n" in ended.stdout
    assert "Finished publishing: 100 messages." in producer.stdout
    assert len(events(consumer.stdout)) == secured.count(topic) == 100


NO_ACCESS = "no access to {secured.secured}: "
TLS = {"bootstrap_servers": "{secured.mutual}", "security_protocol": "SSL"}  # whose broker wants a certificate
OTHER = {"ssl_keystore_location": "{secured.folder}/other.p12", "ssl_keystore_password": "storepass"}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("user, changes, words", [
    *((user, {"sasl_password": WRONG}, [NO_ACCESS, "uthentication", "sasl.*"]) for user in USERS),
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
    ("runProducer", "spinner", ["DESCRIBE"], [], [" produced, 0 delivered, ", "Topic authorization failed"]),
    ("runProducer", "guest", ["DESCRIBE"], [], [" produced, 0 delivered, ", "Cluster authorization failed"]),
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
    assert len(complaints(producer.err)) == 1
    [reason, advice] = complaints(consumer.err)
    assert f": topic {topic}, group {topic}: " in reason and "ask for access" in advice
    assert finished(producer.out) == secured.count(topic) >= len(consumer.shown()) >= 1
