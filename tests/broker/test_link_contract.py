"""What every link keeps: in memory, over amqtt (MQTT 3.1.1) and over Mosquitto (3.1.1 and 5)."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest
from cells import TIMEOUT_S, Cell, Inbox, Watch

from ecc_broker.link import DEFAULT_WINDOW, Message, Will
from ecc_broker.topics import MAX_PAYLOAD_BYTES
from ecc_model.errors import LinkError, WireError

numbers = itertools.count()


@pytest.fixture
def base() -> str:
    """A branch of the topic tree that no other test uses."""
    return f"test/{next(numbers)}"


def test_message_arrives_as_it_was_sent(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", f"{base}/a")
    writer = cell.connected("writer")

    assert writer.publish(f"{base}/a", bytes(range(256)), expiry_s=30)
    assert writer.publish(f"{base}/a", b"qos 0", qos=0)

    assert inbox.next() == Message(f"{base}/a", bytes(range(256)), retained=False)
    assert inbox.next() == Message(f"{base}/a", b"qos 0", retained=False)


def test_messages_keep_their_order(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)
    writer = cell.connected("writer")
    payloads = [bytes([i]) for i in range(DEFAULT_WINDOW)]

    for payload in payloads:
        assert writer.publish(base, payload)

    assert inbox.payloads(len(payloads)) == payloads


def test_retained_message_reaches_a_late_subscriber(cell: Cell, base: str) -> None:
    early = cell.subscribed("early", base)
    writer = cell.connected("writer")

    assert writer.publish(base, b"kept", retain=True)
    assert early.next() == Message(base, b"kept", retained=False)

    assert cell.subscribed("late", base).next() == Message(base, b"kept", retained=True)


def test_empty_retained_message_clears_the_one_before(cell: Cell, base: str) -> None:
    early = cell.subscribed("early", base)
    writer = cell.connected("writer")
    writer.publish(base, b"kept", retain=True)
    writer.publish(base, b"", retain=True)
    assert early.payloads(2) == [b"kept", b""]

    late = cell.subscribed("late", base)
    writer.publish(base, b"new")

    assert late.next() == Message(base, b"new", retained=False)


def test_will_is_published_when_a_client_dies(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)

    cell.live_and_die("mortal", Will(base, b"offline"))

    assert inbox.next() == Message(base, b"offline", retained=False)
    assert cell.subscribed("late", base).next() == Message(base, b"offline", retained=True)


def test_will_is_not_published_after_a_goodbye(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)

    cell.connected("polite", Will(base, b"offline")).close()
    cell.connected("writer").publish(base, b"end")

    assert inbox.until(b"end") == []


def test_wildcards(cell: Cell, base: str) -> None:
    plus = cell.subscribed("plus", f"{base}/+/reply")
    hash_ = cell.subscribed("hash", f"{base}/a/#")
    writer = cell.connected("writer")

    for topic in ("a/reply", "b/reply", "a/b/reply", "a", "a/status"):
        writer.publish(f"{base}/{topic}", topic.encode())
    writer.publish(f"{base}/end/reply", b"end")
    writer.publish(f"{base}/a/end", b"end")

    assert plus.until(b"end") == [b"a/reply", b"b/reply"]
    assert hash_.until(b"end") == [b"a/reply", b"a/b/reply", b"a", b"a/status"]


def test_subscription_after_the_start(cell: Cell, base: str) -> None:
    reader = cell.connected("reader")
    writer = cell.connected("writer")
    inbox = Inbox()

    reader.subscribe(base, inbox)
    writer.publish(base, b"kept", retain=True)

    assert inbox.next().payload == b"kept"


def test_handler_may_publish(cell: Cell, base: str) -> None:
    echo = cell.link("echo")
    echo.subscribe(f"{base}/ask", lambda message: _taken(echo.publish(f"{base}/answer", message.payload)))
    watch = Watch(echo)
    echo.start()
    watch.until(True)
    answers = cell.subscribed("reader", f"{base}/answer")

    cell.connected("writer").publish(f"{base}/ask", b"?")

    assert answers.next().payload == b"?"


def test_handlers_run_on_one_thread_of_the_link(cell: Cell, base: str) -> None:
    threads: set[str] = set()
    inbox = Inbox()
    reader = cell.link("reader")
    reader.on_connection(lambda _: threads.add(threading.current_thread().name))
    reader.subscribe(base, lambda _: threads.add(threading.current_thread().name))
    reader.subscribe(base, inbox)
    watch = Watch(reader)
    reader.start()
    watch.until(True)

    cell.connected("writer").publish(base, b"x")

    assert inbox.next().payload == b"x"
    assert threads == {"link-reader"}


def test_error_in_a_handler_is_counted_and_the_link_lives(
    cell: Cell, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: Message) -> None:
        raise WireError(f"cannot read {message.payload!r}")

    inbox = Inbox()
    reader = cell.link("reader")
    reader.subscribe(base, fail)
    reader.subscribe(base, inbox)
    watch = Watch(reader)
    reader.start()
    watch.until(True)
    writer = cell.connected("writer")

    with caplog.at_level(logging.WARNING, "ecc.link"):
        writer.publish(base, b"bad")
        writer.publish(base, b"bad too")
        assert inbox.payloads(2) == [b"bad", b"bad too"]

    assert reader.counts == {"handler": 2}
    assert reader.connected
    assert f"message on {base} dropped: cannot read b'bad'" in caplog.messages


def test_publish_without_a_connection_is_not_taken(cell: Cell, base: str) -> None:
    link = cell.link("writer")
    watch = Watch(link)
    assert not link.publish(base, b"before the start")

    link.start()
    watch.until(True)
    cell.kill()
    watch.until(False)
    assert not link.connected
    assert not link.publish(base, b"broker is down")

    cell.restart()
    watch.until(True)
    assert link.publish(base, b"broker is back")
    link.close()
    assert not link.publish(base, b"after the end")
    assert link.counts == {}


def test_no_broker_is_a_problem_told_once_and_then_gone(cell: Cell) -> None:
    cell.kill()
    link = cell.link("early")
    watch = Watch(link)

    link.start()
    problem = watch.until(False)
    assert problem is not None
    assert not link.connected

    cell.restart()
    watch.until(True)
    assert link.connected
    assert link.problem is None


def test_subscriptions_are_renewed_after_a_restart_of_the_broker(cell: Cell, base: str) -> None:
    inbox = Inbox()
    reader = cell.link("reader")
    reader.subscribe(f"{base}/first", inbox)
    watch = Watch(reader)
    reader.start()
    watch.until(True)
    reader.subscribe(f"{base}/second", inbox)

    cell.kill()
    watch.until(False)
    cell.restart()
    watch.until(True)

    writer = cell.connected("writer")
    writer.publish(f"{base}/first", b"1")
    writer.publish(f"{base}/second", b"2")
    assert inbox.payloads(2) == [b"1", b"2"]


def test_full_window_refuses_and_what_was_taken_arrives(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)
    writer = cell.connected("writer")

    cell.pause()
    taken = [bytes([i]) for i in range(DEFAULT_WINDOW + 5) if writer.publish(base, bytes([i]))]
    cell.resume()

    assert taken == [bytes([i]) for i in range(DEFAULT_WINDOW)]
    assert inbox.payloads(len(taken)) == taken
    assert writer.counts == {}


def test_message_taken_before_the_broker_died_is_sent_to_the_next_one(cell: Cell, base: str) -> None:
    writer = cell.connected("writer")
    watch = Watch(writer)

    cell.pause()
    assert writer.publish(base, b"taken", retain=True)
    cell.kill()
    watch.until(False)
    cell.restart()

    assert cell.subscribed("reader", base).next().payload == b"taken"


def test_close_sends_what_was_taken(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)
    writer = cell.connected("writer")
    payloads = [bytes([i]) * 1000 for i in range(DEFAULT_WINDOW)]

    taken = [writer.publish(base, payload) for payload in payloads]
    writer.close()

    assert all(taken)
    assert inbox.payloads(len(payloads)) == payloads
    assert writer.counts == {}


def test_close_counts_what_it_could_not_send(cell: Cell, base: str) -> None:
    writer = cell.connected("writer")
    cell.pause()
    writer.publish(base, b"1")
    writer.publish(base, b"2")

    writer.close()
    cell.resume()

    assert writer.counts == {"undelivered": 2}


def test_message_above_the_limit_is_refused_by_the_sender(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)
    writer = cell.connected("writer")

    with pytest.raises(
        LinkError, match=rf"a message of {MAX_PAYLOAD_BYTES + 2000} bytes for {base} is too large; this"
    ):
        writer.publish(base, bytes(MAX_PAYLOAD_BYTES + 2000))

    writer.publish(base, b"small")
    assert inbox.next().payload == b"small"


def test_largest_message_passes(cell: Cell, base: str) -> None:
    inbox = cell.subscribed("reader", base)
    payload = bytes(MAX_PAYLOAD_BYTES)

    assert cell.connected("writer").publish(base, payload)

    assert inbox.next().payload == payload


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b"])
def test_topic_that_nobody_may_publish_on(cell: Cell, topic: str) -> None:
    with pytest.raises(LinkError, match="cannot publish on topic"):
        cell.link("writer").publish(topic, b"x")


@pytest.mark.parametrize("filter_", ["", "a/#/b", "a+/b", "$share/group", "$share/+/a", "a\0b"])
def test_filter_that_nobody_may_subscribe_to(cell: Cell, filter_: str) -> None:
    with pytest.raises(LinkError, match="cannot subscribe to"):
        cell.link("reader").subscribe(filter_, Inbox())


def test_shared_subscription_spreads_the_load_where_the_broker_can(cell: Cell, base: str) -> None:
    seen: list[tuple[str, bytes]] = []
    done = threading.Semaphore(0)
    for name in ("one", "two"):
        cell.subscribed(name, f"$share/ecc/{base}/+/features", inbox=_recorder(name, seen, done))
    writer = cell.connected("writer")
    payloads = [bytes([i]) for i in range(10)]

    for payload in payloads:
        writer.publish(f"{base}/robot/features", payload)
    for _ in range(10 if cell.shares else 20):
        assert done.acquire(timeout=TIMEOUT_S)

    by_worker = {name: [payload for who, payload in seen if who == name] for name in ("one", "two")}
    if cell.shares:
        assert sorted(by_worker["one"] + by_worker["two"]) == payloads
        assert by_worker["one"]
        assert by_worker["two"]
    else:
        assert by_worker == {"one": payloads, "two": payloads}


def test_two_clients_with_one_id_are_noticed_and_one_keeps_away(cell: Cell) -> None:
    if not cell.throws_twins_out:
        pytest.skip("amqtt leaves the first of two clients connected and deaf: nothing can tell it")
    problems: list[str] = []
    noticed = threading.Event()

    def listen(problem: str | None) -> None:
        if "another client" in (problem or ""):
            problems.append(str(problem))
            noticed.set()

    links = [cell.link("twin"), cell.link("twin")]
    for link in links:
        link.on_connection(lambda _, link=link: listen(link.problem))  # type: ignore[misc]
    for link in links:
        link.start()

    assert noticed.wait(TIMEOUT_S)
    assert problems == [
        "another client with the id 'twin' took over the connection 3 times within a minute; "
        "give each device its own name (next try in 60 s)"
    ]


def test_link_is_started_once(cell: Cell) -> None:
    link = cell.connected("once")
    with pytest.raises(LinkError, match="a link is started once; make a new one"):
        link.start()
    link.close()
    with pytest.raises(LinkError, match="a link is started once"):
        link.start()


def _recorder(name: str, seen: list[tuple[str, bytes]], done: threading.Semaphore):  # type: ignore[no-untyped-def]
    def record(message: Message) -> None:
        seen.append((name, message.payload))
        done.release()

    return record


def _taken(answer: bool) -> None:
    if not answer:
        raise LinkError("the answer was not taken")
