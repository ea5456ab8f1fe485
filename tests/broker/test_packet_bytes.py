"""Every byte of a request's PUBLISH packet: topics travel once, and nothing else is put in."""

from __future__ import annotations

import pytest
from cells import Inbox, Watch

from ecc_broker.link import Message
from ecc_broker.messages import FeaturesRequest, encode
from ecc_broker.mqtt import MqttLink
from ecc_broker.topics import BY_NAME, topic
from support.brokers import BrokerProcess
from support.relay import PUBLISH, Relay, packets

TOPIC = topic("features", "lab", "robot-1")
EXPIRY_S = BY_NAME["features"].expiry_s
SPIKES = bytes(17)  # codec byte and 128 bits
REQUEST = encode(FeaturesRequest(300, b"abcd", 2, 200, SPIKES))


def requests_of(relay: Relay, connection: int) -> list[bytes]:
    """The PUBLISH packets with a request that one connection has sent."""
    return [packet for packet in packets(bytes(relay.sent[connection]), PUBLISH) if packet.endswith(REQUEST)]


@pytest.fixture
def relay(mosquitto: BrokerProcess):
    with Relay(mosquitto.port) as relay:
        yield relay


@pytest.fixture
def listener(mosquitto: BrokerProcess):
    """What arrives at a worker."""
    link, inbox = MqttLink(mosquitto.url, "worker"), Inbox()
    link.subscribe("ecc/1/lab/+/features", inbox)
    watch = Watch(link)
    link.start()
    watch.until(True)
    yield inbox
    link.close()


def send(link: MqttLink, listener: Inbox, count: int) -> None:
    for _ in range(count):
        assert link.publish(TOPIC, REQUEST, expiry_s=EXPIRY_S)
        assert listener.next() == Message(TOPIC, REQUEST, False)
    while len(link._outbox):  # what the broker has not acknowledged yet would be sent again after a cut
        pass


def test_a_topic_travels_once_for_each_connection(relay: Relay, listener: Inbox) -> None:
    link = MqttLink(relay.url, "robot-1")
    watch = Watch(link)
    link.start()
    watch.until(True)
    send(link, listener, 3)
    relay.cut()
    watch.until(False)
    watch.until(True)
    send(link, listener, 2)
    link.close()
    first, second = requests_of(relay, 0), requests_of(relay, 1)
    assert [TOPIC.encode() in packet for packet in first] == [True, False, False]
    assert [TOPIC.encode() in packet for packet in second] == [True, False]
    beyond_spikes = [len(packet) - len(SPIKES) + 1 for packet in first]  # the codec byte is not spikes
    assert beyond_spikes == [57, 31, 31]
    assert max(map(len, first)) <= 96


def test_mqtt_3_sends_the_whole_topic_each_time(relay: Relay, listener: Inbox) -> None:
    link = MqttLink(relay.url, "robot-1", version=4)
    watch = Watch(link)
    link.start()
    watch.until(True)
    send(link, listener, 2)
    link.close()
    assert [len(packet) - len(SPIKES) + 1 for packet in requests_of(relay, 0)] == [48, 48]


def test_more_topics_than_the_broker_has_room_for_still_arrive(relay: Relay, mosquitto: BrokerProcess) -> None:
    names = [topic("features", "lab", f"robot-{number}") for number in range(25)]
    worker, inbox = MqttLink(mosquitto.url, "worker"), Inbox()
    worker.subscribe("ecc/1/lab/+/features", inbox)
    link = MqttLink(relay.url, "robot-1")
    for made in (worker, link):
        watch = Watch(made)
        made.start()
        watch.until(True)
    got = []
    for name in [*names, *names]:
        assert link.publish(name, REQUEST, expiry_s=EXPIRY_S)
        got.append(inbox.next().topic)
    link.close()
    worker.close()
    assert got == [*names, *names]
    assert sum(b"ecc/1/lab" not in packet for packet in requests_of(relay, 0)) == 10  # Mosquitto's own limit
