"""A broker that is not there, dies again and again, or comes back with nothing: cases 1, 2 and 3 of the catalogue."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, Robot, assert_invariants, assert_said, eventually

from support.brokers import BrokerProcess
from support.models import TinyModels

STEADY_S = 1.2  # of frames between two deaths: a link that stood so long comes back at once


def broke_off(broker: BrokerProcess) -> str:
    return rf"offline: {re.escape(broker.url)}: the connection broke off; working alone"


def settle(robot: Robot, idle: Path, *arguments: str) -> None:
    """End the stream, ask for every row that still waits, end the device."""
    assert robot.run.end() == 0
    robot.start(idle, *arguments)
    eventually(lambda: robot.run.output and not robot.rows("waiting"), "an answer to every row")
    assert robot.run.end() == 0


def test_a_broker_that_comes_after_the_device_gets_all_that_waited(
    mosquitto: BrokerProcess, models: TinyModels, stream: Path, robot: Robot, cloud: Callable[..., Command]
) -> None:
    mosquitto.kill()
    robot.start(stream, "--broker", mosquitto.url)
    robot.wait_results(20)
    assert {(result["why"], result["stands"]) for result in robot.results} == {("offline", "edge")}
    early = robot.rows("waiting")
    assert len(early) >= 20
    assert robot.status()["connected"] is False

    mosquitto.restart()
    worker = cloud(models.cloud, mosquitto)
    robot.wait_count("answered", len(early))
    eventually(lambda: not early.keys() & robot.rows("waiting").keys(), "answers to the rows of the outage")
    eventually(lambda: robot.results[-1]["why"] == "cloud answered", "an answer in time")
    assert robot.status()["health"] == {}
    assert robot.run.end() == 0
    missing = rf"offline: no broker at {re.escape(mosquitto.url)} \(Connection refused\); "
    assert_invariants(robot, {missing + "start one with: ecc-broker start; working alone": 1})
    assert worker.end() == 0
    assert_said(worker.errors, {})


def kill_again_and_again(
    kills: int, broker: BrokerProcess, models: TinyModels, stream: Path, idle: Path, robot: Robot, worker: Command
) -> None:
    """SIGKILL the broker under a live stream, `kills` times."""
    robot.start(stream, "--broker", broker.url)
    for _ in range(kills):
        robot.wait_count("answered", robot.count("answered") + 1)
        robot.wait_results(int(50 * STEADY_S))
        broker.kill()
        robot.run.wait_error("working alone")
        robot.wait_results(5)  # it goes on
        broker.restart()
        eventually(lambda: robot.status()["connected"], "the connection")
    robot.wait_results(5)
    settle(robot, idle, "--broker", broker.url)
    assert len(robot.rows("labelled")) == len(robot.results)
    assert_invariants(robot, {broke_off(broker): kills})
    assert worker.end() == 0
    assert_said(worker.errors, {rf"{re.escape(broker.url)}: the connection broke off; trying again": kills})


def test_six_deaths_of_the_broker_lose_nothing(
    mosquitto: BrokerProcess,
    models: TinyModels,
    stream: Path,
    recording: Callable[..., Path],
    robot: Robot,
    cloud: Callable[..., Command],
) -> None:
    kill_again_and_again(6, mosquitto, models, stream, recording(1), robot, cloud(models.cloud, mosquitto))


@pytest.mark.slow
def test_thirty_deaths_of_the_broker_lose_nothing(
    mosquitto: BrokerProcess,
    models: TinyModels,
    stream: Path,
    recording: Callable[..., Path],
    robot: Robot,
    cloud: Callable[..., Command],
) -> None:
    kill_again_and_again(30, mosquitto, models, stream, recording(1), robot, cloud(models.cloud, mosquitto))


def test_a_broker_that_forgot_everything_is_told_again(
    mosquitto: BrokerProcess,
    models: TinyModels,
    stream: Path,
    robot: Robot,
    cloud: Callable[..., Command],
    tmp_path: Path,
) -> None:
    worker = cloud(models.cloud, mosquitto)
    robot.start(stream, "--broker", mosquitto.url)
    robot.wait_count("answered", 10)
    mosquitto.kill()
    robot.run.wait_error("working alone")
    robot.wait_results(10)
    waiting = robot.rows("waiting")
    assert len(waiting) >= 10
    shutil.rmtree(tmp_path / "mosquitto")
    mosquitto.restart()
    eventually(lambda: not waiting.keys() & robot.rows("waiting").keys(), "answers to the rows of the outage")
    eventually(lambda: robot.results[-1]["why"] == "cloud answered", "an answer in time")
    assert robot.run.end() == 0
    assert_invariants(robot, {broke_off(mosquitto): 1})
    assert worker.end() == 0
    assert_said(worker.errors, {rf"{re.escape(mosquitto.url)}: the connection broke off; trying again": 1})
