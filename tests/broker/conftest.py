"""The four kinds of link that the contract is tested on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cells import Cell, MemoryCell, MqttCell

from support.brokers import BrokerProcess

_MQTT = {"amqtt-3.1.1": ("amqtt", 4), "mosquitto-3.1.1": ("mosquitto", 4), "mosquitto-5": ("mosquitto", 5)}


@pytest.fixture(scope="module", params=["memory", *_MQTT])
def shared_cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    if request.param == "memory":
        yield MemoryCell()
        return
    kind, version = _MQTT[request.param]
    process = BrokerProcess(tmp_path_factory.mktemp(kind), kind)
    yield MqttCell(process, version)
    process.stop()


@pytest.fixture
def cell(shared_cell: Cell) -> Iterator[Cell]:
    """One broker of each kind, running; links made through it are closed after the test."""
    yield shared_cell
    shared_cell.close_links()
