"""The publisher: hands events to the client, and keeps account of what became of each."""
import collections
import functools
import time

from confluent_kafka import KafkaException

from cluster import settings


class Ledger:
    """What became of each event: the counts, and what is to be shown in order of generation."""

    def __init__(self, stop, nthMsg=1):
        self.stop = stop                    # is told why an event failed
        self.nthMsg = nthMsg                # the first and then every nth event is shown
        self.nextShown = 1                  # number of the next event to be shown
        self.produced = self.delivered = self.failed = 0
        self.unshown = collections.deque()  # [text, whether delivered] of events to be shown

    def enter(self, messages):
        """Count generated messages; give those to be shown a callback for their delivery report."""
        first = self.produced + 1
        self.produced += len(messages)
        while self.nextShown <= self.produced:
            message = messages[self.nextShown - first]
            event = [message["value"], None]
            self.unshown.append(event)
            message["callback"] = functools.partial(self.reportShown, event)
            self.nextShown += self.nthMsg - self.nextShown % self.nthMsg

    def report(self, error, _message):
        """Count a delivery report: the callback of events that are not shown."""
        if error is None:
            self.delivered += 1
        else:
            if not self.failed:  # the others fail for the same reason, or because this one did
                self.stop.fail(error.str())
            self.failed += 1

    def reportShown(self, event, error, message):
        """Count a delivery report of an event that is to be shown if it was delivered."""
        event[1] = error is None
        self.report(error, message)

    def waiting(self):
        """Return how many events wait for their delivery report."""
        return self.produced - self.delivered - self.failed

    def shown(self):
        """Return, once each, the texts of delivered events that no earlier event holds back."""
        texts = []
        while self.unshown and self.unshown[0][1] is not None:
            text, delivered = self.unshown.popleft()
            if delivered:
                texts.append(text)
        return texts

    def giveUp(self):
        """Count what waits as failed: nothing holds back a later event any more."""
        self.failed += self.waiting()
        for event in self.unshown:
            event[1] = bool(event[1])

    def summary(self, reasons):
        """Return the three counts and the reasons to stop as a line of text."""
        return (f"{self.produced} produced, {self.delivered} delivered, "
                f"{self.failed} failed: {'; '.join(reasons)}")


class Publisher:
    """Hands events to the client of a connection, and serves their delivery reports."""

    def __init__(self, connection, nthMsg=1):
        """nthMsg: the first and then every nth event is shown."""
        self.connection, self.client, self.stop = connection, connection.client, connection.stop
        self.window = settings.window(connection.conf)  # how many may wait for their report
        self.ledger = Ledger(self.stop, nthMsg)

    def publish(self, events):
        """Queue events, pairs of a key and a text. There must be room for them."""
        batch = [{"key": str(key), "value": text} for key, text in events]
        self.ledger.enter(batch)
        try:
            queued = self.client.produce_batch(self.connection.topic, batch,
                                               on_delivery=self.ledger.report)
        except KafkaException as error:  # a fatal one: nothing is queued
            queued = 0
            for message in batch:
                message["_error"] = error.args[0]
        if queued < len(batch):
            for message in batch:
                if "_error" in message:
                    message.get("callback", self.ledger.report)(message["_error"], None)

    def room(self):
        """Return how many events can be queued.

        If more are offered, the client refuses some, and offering these again would change the
        order. Those that wait only to be shown take room, too: all of this has to fit into memory.
        """
        return max(self.window - max(len(self.client), len(self.ledger.unshown)), 0)

    def serve(self, seconds, passLinger=False):
        """Serve delivery reports for up to so many seconds, also those that are due at once.

        passLinger: send what is queued without waiting for linger.ms.
        """
        delivered = self.ledger.delivered
        self.connection.serve(self.client.flush if passLinger else self.client.poll, seconds)
        if self.ledger.delivered > delivered:
            self.connection.progress()
        self.connection.outage.report()

    def settle(self, show):
        """Wait until no event waits, or waiting is pointless. show() prints what comes in."""
        start, told, outage = time.monotonic(), False, self.connection.outage
        while self.ledger.waiting() and not self.stop.over() and not outage.topicIsGone:
            self.serve(0.1, passLinger=True)
            show()
            if self.ledger.waiting() and time.monotonic() > start + 1 and not told:
                told = True
                self.connection.console.note(f"waiting for {self.ledger.waiting()} "
                                             "acknowledgements; Ctrl-C gives up")
        self.serve(0)

    def finish(self, show):
        """Wait for the last reports, and count as failed what has none. Return if all went well."""
        self.settle(show)
        self.ledger.giveUp()
        show()
        if self.ledger.failed and self.connection.outage.trouble:
            self.stop.note(self.connection.outage.trouble)
        return not self.ledger.failed
