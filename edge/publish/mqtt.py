"""The publisher: a thread that empties the outbox towards the broker, for ever.

Guarantees: a released record leaves the queue only when the broker has taken it (MQTT 5: by the reason code of its
acknowledgement); the oldest goes first; at most ten messages are unanswered at a time; a broker that cannot be reached
costs nothing but time. A record may be sent twice, with the same (device, epoch, seq); it is never skipped.

A refused record stays in the queue and is offered again later, while others go on; when many are refused, the publisher
pauses. The status then says so. The thread touches the queue only from itself.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from edge.clock import utc_datetime
from edge.domain import Queued
from edge.errors import OutboxError
from edge.publish import connection as wire
from edge.publish.connection import BrokerUnreachable, Connection
from edge.publish.endpoint import Endpoint
from edge.publish.payload import Ack, Command, CommandResult, Health, Meta, Refusal, State, Status, StatusReason
from edge.publish.profiles import Message, Native, Profile
from edge.pulse import Pulse

POLL_S = 0.25  # how soon something new in the queue is noticed
FIRST_RETRY_S = 4.0  # upper end of the first random wait: a thousand poles come back spread over so long
LONGEST_RETRY_S = 300.0
STEADY_S = 60.0  # a connection that lasted so long makes the next wait short again
REFUSED_RETRY_S = 60.0  # what was refused is offered again after so long
MANY_REFUSED = 10  # then it is not about single messages: pause
CONNECT_S = 60.0  # the system's resolver waits so long for name servers that do not answer; TCP and TLS come on top
ANSWER_TIMEOUT_S = 60.0  # a broker that answers pings but no messages is as good as gone
FULL_PAUSE_S = 5.0  # the outbox cannot even number a record: give the disk a moment
RECORDS_PER_S = 10.0  # of a backlog: after a long outage a thousand poles must not drown the broker that is back
BURST = 100  # records that may go at once: more than a day of a quiet street
LEAVE_S = 3.0  # for the last status before the connection is closed
MANY_RESULTS = 32  # answers to commands that wait for their turn; more come from nobody who means well

log = logging.getLogger(__name__)


class Queue(Protocol):
    """What the publisher empties. Called from the publisher's thread only."""

    @property
    def epoch(self) -> str:
        """Random name of the present database."""

    def due(self, now_utc_ns: int, limit: int) -> Sequence[Queued]:
        """Records that may be sent now and have not been, oldest first."""

    def mark_sent(self, seq: int, epoch: str) -> None:
        """The broker has this number of this epoch."""

    def ack(self, epoch: str, upto: int) -> bool:
        """The platform has everything up to a number; False when it speaks of another epoch."""

    def resend(self, first: int, last: int) -> int:
        """Queue sent records again, ``first`` and ``last`` included; how many there are."""


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """How the publisher is at one moment.

    Attributes:
        is_connected: Whether there is a connection.
        address: Where to.
        trouble: Why there is no connection, or what the broker refuses; None when all is well.
        published_utc_ns: When the broker last took a released record; None: not since the start. [ns]
        refused: Records held back because the broker refused them, by its reason.
        refused_commands: Commands that were malformed or not carried out, since the start.
        failure: The error that ended the thread; None while it runs.
    """

    is_connected: bool
    address: str
    trouble: str | None = None
    published_utc_ns: int | None = None
    refused: dict[str, int] = field(default_factory=dict)
    refused_commands: int = 0
    failure: str | None = None


def retry_wait_s(failures: int, first_s: float, random: random.Random) -> float:
    """How long to wait before the next connection: anywhere up to a bound that doubles with every failure. [s]

    The whole wait is random, so that the poles that lost one broker together do not come back together ("full jitter",
    M. Brooker, AWS Architecture Blog, 2015).

    Args:
        failures: Connections in a row that failed or did not last; the bound is ``first_s`` up to the first.
        first_s: The shortest bound. [s]
        random: Where chance comes from.
    """
    longest_s = min(LONGEST_RETRY_S, first_s * 2.0 ** min(max(failures - 1, 0), 16))
    return random.uniform(0.0, longest_s)


@dataclass(slots=True)
class _Parcel:
    """Messages that belong together: gone when all are taken, refused when one is.

    Attributes:
        key: Number of a record, or the name of something said about the device.
        messages: One or more.
        unanswered: Messages in flight.
        epoch: Of the number; empty for something said about the device.
        refusal: Why the broker refused one of them.
        taken: Topics of the messages that the broker took.
    """

    key: int | str
    messages: tuple[Message, ...]
    epoch: str = ""
    unanswered: int = 0
    refusal: str | None = None
    taken: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Held:
    """Why something was refused, until when it waits (on the monotonic clock), and what of it was taken."""

    why: str
    until_s: float
    taken: frozenset[str]


class Publisher:
    """Publishes what the queue holds and what the service tells, and hears the platform.

    Thread-safe: every public method and property.

    Attributes:
        pulse: Whether the thread gets on.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        native: Native,
        meta: Meta,
        status: Status,
        url: str,
        protocol: wire.Protocol = "5",
        also: Sequence[Profile] = (),
        password_file: Path | None = None,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        utc_ns: Callable[[], int] = time.time_ns,
        first_retry_s: float = FIRST_RETRY_S,
        refused_retry_s: float = REFUSED_RETRY_S,
        records_per_s: float = RECORDS_PER_S,
    ) -> None:
        """Check everything that can be checked without a network.

        Args:
            queue: What to empty.
            native: Topics of the device; its id is client id and user name.
            meta: First word of what the device is.
            status: First word of how it is; the last will is made from it.
            url: Broker, see :class:`edge.publish.endpoint.Address`.
            protocol: MQTT version.
            also: Dialects to speak beside the native one.
            password_file: See :meth:`edge.publish.endpoint.Endpoint.of`.
            ca_file: As above.
            cert_file: As above.
            key_file: As above.
            utc_ns: Wall clock, for records that may not leave before an instant.
            first_retry_s: Upper end of the first random wait before a new connection; doubles with every failure. [s]
            refused_retry_s: What was refused is offered again after so long. [s]
            records_per_s: How fast a backlog goes out, after a burst. [1/s]

        Raises:
            BadInput: Address, certificates or secrets are wrong.
        """
        self._endpoint = Endpoint.of(
            url,
            username=native.device,
            password_file=password_file,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
        )
        self._queue = queue
        self._native = native
        self._profiles: tuple[Profile, ...] = (native, *also)
        self._greetings = {topic: word for profile in self._profiles for topic, word in profile.greetings.items()}
        self._protocol: wire.Protocol = protocol
        self._utc_ns = utc_ns
        self._first_retry_s = first_retry_s
        self._refused_retry_s = refused_retry_s
        self._random = random.SystemRandom()
        self._records_per_s = records_per_s
        self._allowed, self._allowed_s = float(BURST), time.monotonic()

        self._lock = threading.Condition()  # guards what the service and the thread share: the next seven
        self._meta = meta
        self._status = status
        self._said: Status | None = None
        self._refused_since: datetime | None = None
        self._news: dict[str, _Parcel] = {}
        self._snapshot = PublisherStatus(is_connected=False, address=str(self._endpoint.address))
        self._idle_rounds = 0

        self._flying: dict[int, tuple[_Parcel, str, float]] = {}  # with the topic, and since when
        self._held: dict[int | str, _Held] = {}
        self._results = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.pulse = Pulse(self._thread)

    @property
    def status(self) -> PublisherStatus:
        """How it is now."""
        with self._lock:
            return self._snapshot

    def start(self) -> None:
        """Begin; an unreachable broker is tried again for ever."""
        self._thread.start()

    def tell(self, fact: Meta | Status | Health) -> None:
        """Say something about the device; the latest of each kind is what the platform gets."""
        with self._lock:
            if isinstance(fact, Health):
                self._news["health"] = _Parcel("health", self._by_all(lambda profile: profile.health(fact)))
            elif isinstance(fact, Meta):
                self._meta = fact
                self._announce_meta()
            else:
                self._status = fact
                self._announce_status()

    def drain(self, timeout_s: float) -> bool:
        """Wait until the broker has everything that may be sent now; False when it has not after so long."""
        with self._lock:
            target = self._idle_rounds + 2  # a round may have begun before this call
            return self._lock.wait_for(lambda: self._idle_rounds >= target, timeout_s)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Say "stopped", close the connection and end the thread; False when that took too long."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ----------------------------------------------------------------------------------------------- connections

    def _run(self) -> None:
        try:
            self._publish_for_ever()
        except Exception as surprise:  # the service sees the failure in the status and decides
            log.exception("the publisher ended")
            self._note(is_connected=False, failure=f"{type(surprise).__name__}: {surprise}")

    def _publish_for_ever(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            why = self._connect_and_serve()
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began_s >= STEADY_S else failures + 1
            wait_s = retry_wait_s(failures, self._first_retry_s, self._random)
            log.warning("no connection to the broker: %s; next attempt in %.1f s", why, wait_s)
            self.pulse.beat(rest_s=wait_s)
            self._stopping.wait(wait_s)

    def _connect_and_serve(self) -> str:
        """One connection from begin to end; says why it ended."""
        self.pulse.beat(rest_s=CONNECT_S)
        try:
            connection = Connection(
                self._endpoint,
                client_id=self._native.device,
                protocol=self._protocol,
                will=self._will(),
                subscriptions=(self._native.ack_topic, self._native.command_topic, *self._greetings),
            )
        except BrokerUnreachable as failure:
            self._note(is_connected=False, trouble=str(failure))
            return str(failure)
        try:
            self._serve(connection)
        finally:
            connection.abandon("abandoned")
            self._take_back()
        self._note(is_connected=False, trouble=connection.end)
        return connection.end or ""

    def _serve(self, connection: Connection) -> None:
        log.info("connected to %s", self._endpoint.address)
        self._note(is_connected=True, trouble=None)
        self._held = {key: replace(held, until_s=0.0) for key, held in self._held.items()}  # rights may have changed
        with self._lock:
            self._said = None
            self._announce_meta()
            self._announce_status()
        is_full = False
        while connection.end is None:
            if self._stopping.is_set():
                self._take_leave(connection)
                return
            self.pulse.beat()
            try:
                self._exchange(connection)
            except OutboxError as full:  # nothing is lost: what could not be noted is offered or asked again
                self._note(trouble=str(full))
                is_full = True
                self._stopping.wait(FULL_PAUSE_S)
            else:
                if is_full:
                    self._note(trouble=None)
                is_full = False
            self._look_after(connection)

    def _exchange(self, connection: Connection) -> None:
        """One round: send what may be sent, take in what came.

        Raises:
            OutboxError: The outbox could not be read or written; everything else was done all the same.
        """
        troubles = [self._send(connection)]
        connection.step(POLL_S)
        troubles += [_trouble_of(partial(self._answered, answer)) for answer in connection.take_answers()]
        troubles += [_trouble_of(partial(self._heard, incoming)) for incoming in connection.take_incoming()]
        for trouble in filter(None, troubles):
            raise trouble

    def _look_after(self, connection: Connection) -> None:
        oldest_s = min((since_s for _, _, since_s in self._flying.values()), default=time.monotonic())
        if time.monotonic() - oldest_s > ANSWER_TIMEOUT_S:
            connection.abandon(f"no answer to a message within {ANSWER_TIMEOUT_S:.0f} s")
        if connection.is_deaf and self.status.trouble is None:
            log.warning("the broker refuses a subscription: readers cannot acknowledge, ask or greet")
            self._note(trouble=f"the broker refuses subscriptions to {' and '.join(['ack', 'cmd', *self._greetings])}")

    def _take_leave(self, connection: Connection) -> None:
        """Say that this is an orderly end, and close: no last will then."""
        with self._lock:
            parting = self._status.model_copy(
                update={"state": State.STOPPED, "reasons": (), "since": self._now()},
            )
        for message in self._by_all(lambda profile: profile.status(parting)):
            self._hand_over(connection, _Parcel("status", (message,)))
        deadline_s = time.monotonic() + LEAVE_S
        while self._flying and connection.end is None and time.monotonic() < deadline_s:
            connection.step(POLL_S)
            for answer in connection.take_answers():
                self._answered(answer)
        connection.close()

    def _take_back(self) -> None:
        """What was said about the device and not answered waits again, unless there is something newer."""
        for parcel, _, _ in self._flying.values():
            self._wait_again(parcel)
        self._flying.clear()

    # --------------------------------------------------------------------------------------------------- sending

    def _send(self, connection: Connection) -> OutboxError | None:
        """Fill up what may be in flight: words about the device first, then the oldest records.

        Returns:
            Why the outbox gave no records: it cannot be read or written. The platform must hear that most of all.
        """
        room = connection.in_flight_limit - len(self._flying)
        if room <= 0:
            return None
        with self._lock:
            news = list(self._news.values())
        due: Sequence[Queued] = ()
        trouble: OutboxError | None = None
        try:
            due = self._queue.due(self._utc_ns(), connection.in_flight_limit + len(self._held))
        except OutboxError as refused:
            trouble = refused
        else:
            self._forget_held(due)
            if not news and not due and not self._flying:
                with self._lock:
                    self._idle_rounds += 1
                    self._lock.notify_all()
        waiting = {key for key, held in self._held.items() if held.until_s > time.monotonic()}
        if sum(isinstance(key, int) for key in waiting) >= MANY_REFUSED:
            due = ()
        elsewhere = waiting | {parcel.key for parcel, _, _ in self._flying.values()}
        fresh = [queued for queued in due if queued.seq not in elsewhere][: self._allowance()]
        records = (_Parcel(queued.seq, self._rendered(queued), queued.epoch) for queued in fresh)
        for parcel in chain((parcel for parcel in news if parcel.key not in elsewhere), records):
            if len(parcel.messages) > connection.in_flight_limit:
                connection.abandon(f"the broker takes fewer messages at a time than mqtt.profiles needs ({room})")
            if len(parcel.messages) > room:
                break
            self._hand_over(connection, parcel)
            room -= len(parcel.messages)
            self._allowed -= isinstance(parcel.key, int)
        return trouble

    def _allowance(self) -> int:
        """How many records may go now: a burst, then a steady trickle."""
        now_s = time.monotonic()
        self._allowed = min(self._allowed + (now_s - self._allowed_s) * self._records_per_s, BURST)
        self._allowed_s = now_s
        return int(self._allowed)

    def _forget_held(self, due: Sequence[Queued]) -> None:
        """What the outbox no longer has, acknowledged or joined with another, cannot be refused any more."""
        for key in {key for key in self._held if isinstance(key, int)} - {queued.seq for queued in due}:
            del self._held[key]
        self._note_refusals()

    def _rendered(self, queued: Queued) -> tuple[Message, ...]:
        """A record in every dialect; after a refusal, only what was not taken then."""
        held = self._held.get(queued.seq)
        said = self._by_all(lambda profile: profile.measurement(queued))
        return said if held is None else tuple(message for message in said if message.topic not in held.taken)

    def _hand_over(self, connection: Connection, parcel: _Parcel) -> None:
        if isinstance(parcel.key, str):
            with self._lock:
                if self._news.get(parcel.key) is parcel:
                    del self._news[parcel.key]
        if not all(connection.fits(message) for message in parcel.messages):
            parcel.refusal = "Packet too large"
            self._settle(parcel)
            return
        for message in parcel.messages:
            number = connection.publish(message)
            if number is None:
                return  # the connection has ended; the queue still has it
            parcel.unanswered += 1
            self._flying[number] = parcel, message.topic, time.monotonic()

    def _answered(self, answer: wire.Answer) -> None:
        parcel, topic, _ = self._flying.pop(answer.number)
        parcel.unanswered -= 1
        parcel.refusal = parcel.refusal or answer.refusal
        if answer.refusal is None:
            parcel.taken.add(topic)
        if not parcel.unanswered:
            self._settle(parcel)

    def _settle(self, parcel: _Parcel) -> None:
        """All messages of a parcel are answered."""
        if parcel.refusal is not None:
            before = self._held.get(parcel.key)
            taken = parcel.taken | (before.taken if before is not None else set())
            self._held[parcel.key] = _Held(parcel.refusal, time.monotonic() + self._refused_retry_s, frozenset(taken))
            self._wait_again(parcel)
        else:
            self._held.pop(parcel.key, None)
            if isinstance(parcel.key, int):
                self._queue.mark_sent(parcel.key, parcel.epoch)
                self._note(published_utc_ns=self._utc_ns())
        self._note_refusals()

    def _wait_again(self, parcel: _Parcel) -> None:
        """Offer words about the device once more, unless there are newer ones; records wait in the queue anyway."""
        if isinstance(parcel.key, str):
            with self._lock:
                self._news.setdefault(parcel.key, _Parcel(parcel.key, parcel.messages))

    # ---------------------------------------------------------------------------------------- about the device

    def _note_refusals(self) -> None:
        """Keep snapshot and status in step with what is held back."""
        refused = dict(Counter(held.why for key, held in self._held.items() if isinstance(key, int)))
        with self._lock:
            if refused == self._snapshot.refused:
                return
            if refused and not self._snapshot.refused:
                self._refused_since = self._now()
                log.warning("the broker refuses released records, they are kept: %s", ", ".join(refused))
            self._note(refused=refused)
            self._announce_status()

    def _announce_meta(self) -> None:
        meta = self._meta
        self._news["meta"] = _Parcel("meta", self._by_all(lambda profile: profile.meta(meta)))

    def _announce_status(self) -> None:
        """Queue the status that the service told, degraded while the broker refuses records."""
        status = self._status
        if self._snapshot.refused and status.state in (State.READY, State.DEGRADED):
            since = status.since if status.state is State.DEGRADED else self._refused_since
            reasons = (*status.reasons, StatusReason.BROKER_REFUSES)
            status = status.model_copy(update={"state": State.DEGRADED, "reasons": reasons, "since": since})
        if status != self._said:
            self._said = status
            self._news["status"] = _Parcel("status", self._by_all(lambda profile: profile.status(status)))

    def _will(self) -> Message:
        with self._lock:
            lost = self._status.model_copy(
                update={"state": State.LOST, "reasons": (StatusReason.CONNECTION_LOST,), "since": None}
            )
        return self._native.status(lost)[0]

    def _by_all(self, say: Callable[[Profile], Sequence[Message]]) -> tuple[Message, ...]:
        return tuple(message for profile in self._profiles for message in say(profile))

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._snapshot = replace(self._snapshot, **changes)

    def _now(self) -> datetime:
        return utc_datetime(self._utc_ns())

    # ------------------------------------------------------------------------------------------- the platform

    def _heard(self, incoming: wire.Incoming) -> None:
        if incoming.topic == self._native.ack_topic:
            self._acknowledge(incoming.payload)
        elif incoming.topic in self._greetings:
            self._greet(incoming)
        elif incoming.is_retained:
            self._answer(Refusal.RETAINED)
        else:
            self._obey(incoming.payload)

    def _acknowledge(self, payload: bytes) -> None:
        if not payload:
            return  # the platform cleared its retained word
        try:
            ack = Ack.model_validate_json(payload)
        except ValidationError:
            self._answer(Refusal.MALFORMED, cmd="ack")
            return
        self._queue.ack(ack.epoch, ack.upto)

    def _greet(self, incoming: wire.Incoming) -> None:
        if incoming.payload == self._greetings[incoming.topic]:
            with self._lock:
                self._announce_meta()

    def _obey(self, payload: bytes) -> None:
        try:
            command = Command.model_validate_json(payload)
        except ValidationError:
            self._answer(Refusal.MALFORMED)
            return
        if command.epoch not in (None, self._queue.epoch):
            self._answer(Refusal.OTHER_EPOCH, cmd=command.cmd, id=command.id)
            return
        queued = self._queue.resend(command.from_, command.to)
        for seq in [key for key in self._held if isinstance(key, int) and command.from_ <= key <= command.to]:
            self._held[seq] = replace(self._held[seq], taken=frozenset())  # all of it is wanted again
        log.info("the platform asked for records again")
        self._answer(None, cmd=command.cmd, id=command.id, queued=queued)

    def _answer(self, refusal: Refusal | None, **about: Any) -> None:
        """Queue the result of a command, and count it when it was refused."""
        if refusal is not None:
            log.warning("a command was refused: %s", refusal.value)
            self._note(refused_commands=self.status.refused_commands + 1)
        result = CommandResult(
            device=self._native.device, epoch=self._queue.epoch, ok=refusal is None, reason=refusal, **about
        )
        with self._lock:
            if sum(key.startswith("result") for key in self._news) >= MANY_RESULTS:
                return
            self._results += 1
            key = f"result {self._results}"
            self._news[key] = _Parcel(key, (self._native.result(result),))


def _trouble_of(do: Callable[[], None]) -> OutboxError | None:
    """What the outbox had against it; None when it is done."""
    try:
        do()
    except OutboxError as refused:
        return refused
    return None
