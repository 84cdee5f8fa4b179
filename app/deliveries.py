"""The deliveries: how many more events have room, what became of each, and what is shown of it."""
import collections
import contextlib
import datetime
import functools
import math

from confluent_kafka import KafkaException

from outage import Outage
from terminal import everyNth

BATCH, BATCH_BYTES = 1000, 1000000  # handed over at once, where so much is due


class Deliveries:
    """What is known of the events that were handed over to the client."""

    def __init__(self, args, terminal):
        """args: those of the command line."""
        self.args, self.terminal = args, terminal
        self.client = None    # what the events are handed over to
        self.nthMsg = args.print_n_msg if args.loop else 1
        self.outage = Outage(terminal)
        self.produced = self.delivered = 0
        self.largest = 0      # bytes of the largest text so far
        self.fatal = None     # why the client is dead for good
        self.drawnAt = 0      # seconds of the loop
        self.unshown = collections.deque()  # [text, whether delivered] of events to be shown

    def begin(self, client):
        """Take the client."""
        self.client = client

    def expect(self, batch):
        """Count events that are about to be handed over, and note those that are to be shown.

        Only the last one may be larger than all before.
        """
        for message in everyNth(batch, self.produced, self.nthMsg):
            event = [message["value"], None]
            self.unshown.append(event)
            message["callback"] = functools.partial(self.acked, event=event)
        self.produced += len(batch)
        self.largest = max([self.largest, *[len(message["value"]) for message in batch[-1:]]])

    def acked(self, error, _message, event=None):
        """Count a delivery report. event: its place in unshown, if it is to be shown."""
        if event:
            event[1] = error is None
        if error is None:
            self.delivered += 1
        else:
            self.terminal.fail(error.str())

    def onRefusal(self, batch):
        """Take a batch that the client has refused in part, such as a text that is too large."""
        self.terminal.fail(*[message["_error"].str() for message in batch if "_error" in message])

    def room(self):
        """Return how many events may be handed over at once: all that waits has to fit into memory.

        Those that wait only to be shown take room, too.
        """
        size = self.largest or BATCH_BYTES  # of the first event nothing is known: it goes alone
        messages, kbytes = self.args.queueLimits
        limit = min(messages or math.inf, kbytes * 1024 // size)  # 0 messages: no limit
        free = max(limit, 1) - max(len(self.client), len(self.unshown))
        return max(min(free, BATCH, max(BATCH_BYTES // size, 1)), 0)

    def catchUp(self, wait, seconds):
        """Serve delivery reports by the client's poll() or flush(), then say what is due."""
        before = self.delivered
        try:
            wait(seconds)
        except (KafkaException, SystemError) as error:  # flush() wraps it
            self.fatal = (error.__cause__ or error).args[0].str()
            self.terminal.fail(self.fatal)
        self.outage.update(self.delivered > before, len(self.client) > 0)
        self.show()

    def show(self, atEnd=False):
        """Print delivered events in the order of generation. At the end none holds back others."""
        with self.terminal.printing:  # the last words may come from another thread
            texts = []
            while self.unshown and (atEnd or self.unshown[0][1] is not None):
                text, delivered = self.unshown.popleft()
                if delivered:
                    texts.append(text)
            self.terminal.sayEach("Message produced: ", texts)

    def waitForAcks(self):
        """Wait until no event waits for its delivery report."""
        self.catchUp(self.client.flush, 1)
        if len(self.client) and not self.fatal:
            self.terminal.tell(f"waiting for {len(self.client)} acknowledgements; Ctrl-C gives up")
        while len(self.client) and not self.fatal:
            self.catchUp(self.client.flush, 0.1)

    def drawProgress(self, seconds):
        """Show, once a second, how far a loop is after so many seconds."""
        if seconds < self.drawnAt + 1:
            return
        self.drawnAt = seconds
        total, rate = self.args.events, self.delivered / seconds
        of, left = f" of {total:,}" if total else "", ""
        if total and rate:
            seconds = min((total - self.delivered) // rate, 10 ** 9)
            left = f", {datetime.timedelta(seconds=seconds)} left"
        self.terminal.draw(f"{self.delivered:,}{of} delivered, {rate:,.1f}/s{left}")

    def lastWords(self):
        """Say what became of the events."""
        with contextlib.suppress(KafkaException):
            self.client.poll(0)  # reports that came in while the main thread waited, say, to print
        produced, delivered = self.produced, self.delivered  # once: more of them may come in
        failed = produced - delivered
        if failed:
            self.terminal.fail(*filter(None, [self.outage.words()]))
        if not self.terminal.running:
            why = self.fatal or "; ".join(self.terminal.reasons)
            self.terminal.tell(f"{produced} produced, {delivered} delivered, {failed} failed: "
                               f"{why}")
        self.show(atEnd=True)
        if self.args.loop or self.terminal.signal:
            self.terminal.say(f"Finished publishing: {delivered} messages.")
