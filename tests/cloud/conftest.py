from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from support.asker import Asker, StartWorker
from support.models import TinyModels, write_tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(Path(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def cloud_model(models: TinyModels) -> CloudModel:
    return CloudModel(models.cloud)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def asker(broker: MemoryBroker) -> Iterator[Asker]:
    asker = Asker(MemoryLink(broker, "robot-1"), "robot-1")
    yield asker
    asker.close()


@pytest.fixture
def start_worker(broker: MemoryBroker, cloud_model: CloudModel, asker: Asker) -> Iterator[StartWorker]:
    workers: list[Worker] = []

    def start(model: CloudModel = cloud_model, **options: object) -> Worker:
        worker = Worker(model, MemoryLink(broker, f"ecc-cloud-{len(workers)}"), **options)
        workers.append(worker)
        worker.start()
        asker.await_labels()
        return worker

    yield start
    for worker in workers:
        worker.close()
