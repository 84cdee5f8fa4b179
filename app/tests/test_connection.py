"""The connection: the errors that it keeps."""
from confluent_kafka import KafkaError, Producer

from cluster.connection import Connection
from terminal.console import Console
from terminal.stopping import Stopping


def test_fatalErrorStays():
    stop = Stopping()
    conf = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    connection = Connection(Producer, conf, "topic", Console("test", stop), stop)
    connection.onError(KafkaError(KafkaError._TRANSPORT, "before"))
    connection.progress()
    assert connection.error is None and stop.failures == []
    connection.onError(KafkaError(KafkaError._FATAL, "fatal", fatal=True))
    connection.onError(KafkaError(KafkaError._TRANSPORT, "after"))
    connection.progress()
    assert connection.error.str() == "fatal" and stop.failures == ["fatal"]
