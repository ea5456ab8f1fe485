"""Meters on made-up sysfs trees: counters that turn over, rails, gauges, files that only root may read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecc_tools.ledger.meters import Meter, MeterDenied, MeterError, find_meter

RANGE = 262_143_328_850
NOBODY = 65534


def write(folder: Path, **attributes: object) -> Path:
    """A device's attributes as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def rapl(root: Path, number: int = 0, **changes: object) -> Path:
    package: dict[str, object] = {"name": f"package-{number}", "energy_uj": 1000, "max_energy_range_uj": RANGE}
    return write(root / "class/powercap" / f"intel-rapl:{number}", **(package | changes))


def ina3221(root: Path, number: int = 0, **changes: object) -> Path:
    chip: dict[str, object] = {"name": "ina3221"}
    for channel, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1):
        chip |= {f"in{channel}_label": label, f"in{channel}_input": 5000, f"curr{channel}_input": 100 * channel}
    return write(root / "class/hwmon" / f"hwmon{number}", **(chip | changes))


def battery(root: Path, **changes: object) -> Path:
    gauge: dict[str, object] = {"type": "Battery", "status": "Discharging", "energy_now": 50_000_000}
    return write(root / "class/power_supply/BAT0", **(gauge | changes))


def found(root: Path) -> Meter:
    meter = find_meter(root)
    assert meter is not None
    return meter


def sets(path: Path, value: int) -> Callable[[], object]:
    """Work that moves a counter."""
    return lambda: path.write_text(f"{value}\n")


def test_a_machine_without_a_meter_has_none(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None
    write(tmp_path / "class/hwmon/hwmon0", name="coretemp", temp1_input=40_000)
    write(tmp_path / "class/power_supply/AC", type="Mains", online=1)
    assert find_meter(tmp_path) is None


# ---- RAPL ----


def test_rapl_adds_the_packages_and_nothing_inside_them(tmp_path: Path) -> None:
    first, second = rapl(tmp_path), rapl(tmp_path, 1)
    write(tmp_path / "class/powercap/intel-rapl:0:0", name="core", energy_uj=1, max_energy_range_uj=RANGE)
    rapl(tmp_path, 2, name="psys")
    meter = found(tmp_path)

    def work() -> None:
        sets(first / "energy_uj", 501_000)()
        sets(second / "energy_uj", 21_000)()
        write(tmp_path / "class/powercap/intel-rapl:0:0", energy_uj=400_000)
        sets(tmp_path / "class/powercap/intel-rapl:2/energy_uj", 900_000)()

    measured = meter.measure(work)
    assert measured.mj == pytest.approx(500 + 20)
    assert measured.seconds > 0
    assert (measured.source, measured.resolution) == (meter.source, meter.resolution)
    assert measured.source == "RAPL, processor packages"


def test_a_rapl_counter_that_turns_over_goes_on(tmp_path: Path) -> None:
    package = rapl(tmp_path, energy_uj=RANGE - 4_000)
    assert found(tmp_path).measure(sets(package / "energy_uj", 2_000)).mj == pytest.approx(6.0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that everybody may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """A file that only root may read, and us as somebody else."""
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_counters_for_root_alone_say_what_to_type(open_folder: Path) -> None:
    counter = rapl(open_folder) / "energy_uj"
    with unreadable(counter), pytest.raises(MeterDenied) as caught:
        find_meter(open_folder)
    assert str(caught.value) == (
        f"{counter}: only root may read this meter; run as root, or allow it until a restart: sudo chmod a+r {counter}"
    )


def test_a_meter_that_may_be_read_goes_before_one_that_may_not(open_folder: Path) -> None:
    battery(open_folder)
    with unreadable(rapl(open_folder) / "energy_uj"):
        assert found(open_folder).source == "battery gauge, the whole machine"


# ---- INA3221 ----


def test_the_rail_of_the_whole_board_is_not_counted_twice(tmp_path: Path) -> None:
    ina3221(tmp_path)
    meter = found(tmp_path)
    measured = meter.measure(lambda: None)
    assert measured.source == "INA3221, VDD_IN"
    assert measured.mj == pytest.approx(500 * measured.seconds)  # 5 V, 100 mA


def test_rails_are_added_where_none_feeds_the_others(tmp_path: Path) -> None:
    ina3221(tmp_path, in1_label="VDD_GPU_SOC")
    ina3221(tmp_path, 1, in1_label="VIN_SYS_5V0", in2_enable=0, in3_enable=0)
    measured = found(tmp_path).measure(lambda: None)
    assert measured.source == "INA3221, VDD_GPU_SOC, VDD_CPU_GPU_CV, VDD_SOC, VIN_SYS_5V0"
    assert measured.mj == pytest.approx((500 + 1000 + 1500 + 500) * measured.seconds)


def test_power_that_changes_is_integrated(tmp_path: Path) -> None:
    chip = ina3221(tmp_path)
    measured = found(tmp_path).measure(sets(chip / "curr1_input", 300))
    assert 500 * measured.seconds < measured.mj < 1500 * measured.seconds
    assert measured.resolution == "power sampled every 10 ms"


def test_a_rail_that_goes_away_is_told(tmp_path: Path) -> None:
    chip = ina3221(tmp_path)
    meter = found(tmp_path)
    with pytest.raises(MeterError, match=r"in1_input: the meter cannot be read \(.*\); look whether its driver is"):
        meter.measure((chip / "in1_input").unlink)


# ---- batteries ----


def test_a_gauge_of_energy(tmp_path: Path) -> None:
    supply = battery(tmp_path)
    measured = found(tmp_path).measure(sets(supply / "energy_now", 49_990_000))
    assert measured.mj == pytest.approx(36_000)  # 10 mWh


def test_a_gauge_of_charge_at_the_mean_voltage(tmp_path: Path) -> None:
    supply = battery(tmp_path, charge_now=4_000_000, voltage_now=12_000_000)
    (supply / "energy_now").unlink()

    def work() -> None:
        sets(supply / "charge_now", 3_999_000)()
        sets(supply / "voltage_now", 11_000_000)()

    assert found(tmp_path).measure(work).mj == pytest.approx(1e-3 * 11.5 * 3600 * 1e3)  # 1 mAh


@pytest.mark.parametrize(
    "changes", [{"status": "Charging"}, {"status": "Full"}, {"scope": "Device"}, {"type": "UPS"}], ids=str
)
def test_a_battery_that_tells_nothing_is_no_meter(tmp_path: Path, changes: dict[str, object]) -> None:
    battery(tmp_path, **changes)
    assert find_meter(tmp_path) is None


def test_the_finest_meter_is_taken(tmp_path: Path) -> None:
    battery(tmp_path)
    assert found(tmp_path).source.startswith("battery")
    ina3221(tmp_path)
    assert found(tmp_path).source.startswith("INA3221")
    rapl(tmp_path)
    assert found(tmp_path).source.startswith("RAPL")


def test_a_counter_that_is_no_number_is_told(tmp_path: Path) -> None:
    rapl(tmp_path, energy_uj="many")
    with pytest.raises(MeterError, match=r"energy_uj: the meter cannot be read \(invalid literal"):
        find_meter(tmp_path)
