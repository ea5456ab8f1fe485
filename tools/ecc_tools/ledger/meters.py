"""Meters of energy that a machine may have, read from Linux's sysfs: RAPL, INA3221, a battery's gauge."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ecc_model.errors import EccError

SYSFS = Path("/sys")
SAMPLE_S = 0.01  # between two readings of power
SUPPORTED = "RAPL (processors by Intel and AMD), INA3221 (Jetson boards), the gauge of a battery that discharges"
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")  # INA3221 channels through which the others are fed
MJ_PER_UWH = 3.6


class MeterError(EccError):
    """A meter that cannot be read."""


class MeterDenied(MeterError):
    """A meter that only root may read."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: only root may read this meter; run as root, or allow it until a restart: sudo chmod a+r {path}"
        )


@dataclass(frozen=True)
class Measured:
    """What a meter says of something that ran; `resolution` in words."""

    mj: float
    seconds: float
    source: str
    resolution: str


class Meter(Protocol):
    """Something that measures energy. seconds: how long a measurement should last at least."""

    source: str
    resolution: str
    seconds: float

    def measure(self, work: Callable[[], object]) -> Measured:
        """The energy of this machine's metered part while `work` runs. `MeterError`."""
        ...


def find_meter(root: Path = SYSFS) -> Meter | None:
    """The best meter under `root` that can be read; None: there is none. `MeterDenied`: only ones for root."""
    denied: MeterDenied | None = None
    for find in (_find_rapl, _find_ina3221, _find_battery):
        try:
            meter = find(root)
        except MeterDenied as exc:
            denied = denied or exc
            continue
        if meter is not None:
            return meter
    if denied is not None:
        raise denied
    return None


class Rapl:
    """The energy counters of the processor's packages: cores and caches, memory not included.

    A counter starts again from 0 beyond `max_energy_range_uj`; one such start within a measurement is seen, and takes
    minutes at least.
    """

    source = "RAPL, processor packages"
    resolution = "counters in microjoule, renewed about every millisecond"
    seconds = 3.0

    def __init__(self, domains: Sequence[Path]) -> None:
        self._domains = domains
        self._ranges = [_integer(domain / "max_energy_range_uj") for domain in domains]
        self._read()

    def measure(self, work: Callable[[], object]) -> Measured:
        """See `Meter.measure`."""
        before, started = self._read(), time.monotonic()
        work()
        after, seconds = self._read(), time.monotonic() - started
        spent = [
            end - start if end >= start else end - start + turn
            for start, end, turn in zip(before, after, self._ranges, strict=True)
        ]
        return Measured(sum(spent) / 1e3, seconds, self.source, self.resolution)

    def _read(self) -> list[int]:
        """Microjoule."""
        return [_integer(domain / "energy_uj") for domain in self._domains]


class Ina3221:
    """Power of a board's supply rails: voltage times current, sampled and integrated."""

    resolution = f"power sampled every {SAMPLE_S * 1e3:g} ms"
    seconds = 5.0

    def __init__(self, channels: Sequence[tuple[Path, int, str]]) -> None:
        self._channels = channels
        self.source = f"INA3221, {', '.join(label for _, _, label in channels)}"
        self._read()

    def measure(self, work: Callable[[], object]) -> Measured:
        """See `Meter.measure`."""
        samples: list[tuple[float, float]] = []
        done = threading.Event()

        def sample() -> None:
            samples.append((time.monotonic(), self._read()))

        def keep_sampling() -> None:
            try:
                while not done.wait(SAMPLE_S):
                    sample()
            except MeterError:
                return  # the last reading, below, says why

        sample()
        thread = threading.Thread(target=keep_sampling, name="ecc-meter", daemon=True)
        thread.start()
        try:
            work()
        finally:
            done.set()
            thread.join()
        sample()
        pairs = itertools.pairwise(samples)
        mj = sum((after - before) * (first + second) / 2 for (before, first), (after, second) in pairs)
        return Measured(mj, samples[-1][0] - samples[0][0], self.source, self.resolution)

    def _read(self) -> float:
        """Milliwatt."""
        return sum(
            _integer(chip / f"in{number}_input") * _integer(chip / f"curr{number}_input") / 1e3
            for chip, number, _ in self._channels
        )


class Battery:
    """What leaves the batteries: of the whole machine, as coarse as their gauges."""

    source = "battery gauge, the whole machine"
    resolution = "a gauge that often moves in steps of 36,000 mJ"
    seconds = 120.0

    def __init__(self, batteries: Sequence[Path]) -> None:
        self._batteries = batteries
        self._read()

    def measure(self, work: Callable[[], object]) -> Measured:
        """See `Meter.measure`. A charge is taken at the mean of the voltages before and after."""
        before, started = self._read(), time.monotonic()
        work()
        after, seconds = self._read(), time.monotonic() - started
        spent = [
            (full - left) * (loaded + unloaded) / 2
            for (full, loaded), (left, unloaded) in zip(before, after, strict=True)
        ]
        return Measured(sum(spent) * MJ_PER_UWH, seconds, self.source, self.resolution)

    def _read(self) -> list[tuple[float, float]]:
        """For each battery uWh and 1, or uAh and volt."""
        return [
            (float(_integer(battery / "energy_now")), 1.0)
            if (battery / "energy_now").exists()
            else (float(_integer(battery / "charge_now")), _integer(battery / "voltage_now") / 1e6)
            for battery in self._batteries
        ]


def _find_rapl(root: Path) -> Meter | None:
    zones = sorted((root / "class" / "powercap").glob("intel-rapl:*"))
    packages = [zone for zone in zones if _text(zone / "name").startswith("package-")]
    return Rapl(packages) if packages else None


def _find_ina3221(root: Path) -> Meter | None:
    channels = [
        (chip, number, _text(chip / f"in{number}_label") or f"channel {number}")
        for chip in sorted((root / "class" / "hwmon").glob("hwmon*"))
        if _text(chip / "name") == "ina3221"
        for number in (1, 2, 3)
        if (chip / f"curr{number}_input").exists() and _text(chip / f"in{number}_enable") != "0"
    ]
    whole = [channel for channel in channels if channel[2] in WHOLE_BOARD]
    return Ina3221(whole or channels) if channels else None


def _find_battery(root: Path) -> Meter | None:
    batteries = [
        supply
        for supply in sorted((root / "class" / "power_supply").glob("*"))
        if _text(supply / "type") == "Battery"
        and _text(supply / "scope") != "Device"  # a mouse's
        and _text(supply / "status") == "Discharging"
        and ((supply / "energy_now").exists() or (supply / "charge_now").exists())
    ]
    return Battery(batteries) if batteries else None


def _text(path: Path) -> str:
    """An attribute, empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _integer(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except PermissionError as exc:
        raise MeterDenied(path) from exc
    except (OSError, ValueError) as exc:
        raise MeterError(f"{path}: the meter cannot be read ({exc}); look whether its driver is loaded") from exc
