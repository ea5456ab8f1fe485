"""Models, a worker in this process, and an Edge that asks it about every frame. Making models needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_snn import Edge
from support.edges import await_worker

if TYPE_CHECKING:
    from support.models import TinyModels


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Models whose edge is unsure about some random frames."""
    pytest.importorskip("torch")
    from support.models import write_tiny_models

    return write_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Models whose edge is unsure about every frame."""
    pytest.importorskip("torch")
    from support.models import write_tiny_models

    return write_tiny_models(tmp_path_factory.mktemp("unsure"), threshold=0.0)


@pytest.fixture
def broker(models: TinyModels) -> Iterator[MemoryBroker]:
    """A broker with a worker behind it, for both pairs of models: they differ in the threshold only."""
    from ecc_cloud.model import CloudModel
    from ecc_cloud.worker import Worker

    broker = MemoryBroker()
    worker = Worker(CloudModel(models.cloud), MemoryLink(broker, "ecc-cloud-0"))
    worker.start()
    yield broker
    worker.close()


@pytest.fixture
def edge(tmp_path: Path, unsure: TinyModels, broker: MemoryBroker) -> Iterator[Edge]:
    """An open Edge that asks the worker about every frame."""
    with Edge(unsure.edge, state=tmp_path / "state", link=MemoryLink(broker, "device")) as edge:
        await_worker(edge)
        yield edge
