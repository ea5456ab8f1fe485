"""Running a recording again: the same frames, the cloud's recorded answers, the recording's time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, get_type_hints

import msgspec

from ecc_device.clock import SimulatedClock, VirtualClock
from ecc_device.device import NOT_REPEATED, Device, DeviceConfig
from ecc_device.linkprofiles import LinkSchedule, link_profile
from ecc_device.player import play
from ecc_device.recordings.answers import RecordedAnswers
from ecc_device.recordings.channels import ModelInUse
from ecc_device.recordings.comparison import Expectation
from ecc_device.recordings.part import Part
from ecc_device.recordings.recording import Recording, Step
from ecc_device.recordings.timeline import Timeline
from ecc_device.results import Result
from ecc_device.sources import Source, open_source
from ecc_model.errors import DeviceError, SourceError
from ecc_model.modelfile import EdgeModel, read_edge

PATIENCE_S = 60.0  # how long a live worker is waited for, unless told otherwise
Pace = Callable[[float], object]


class Replay:
    """One replay; a context manager, and an iterator of its results.

    source: a recording, or anything else that `open_source` opens, without live ones. model: the edge model; None, in a
    recording, for those that answered then. engine: None for the fastest. link: a name of `linkprofiles.PROFILES`: the
    recorded answers travel over such a link instead. start_s, end_s, times: see `Part`. state: its state folder; None
    for one of its own that is gone afterwards. expect: a recording that the results must equal, else `ReplayDiffers`.
    options: fields of `DeviceConfig` that replace what the recording was made with; with a `broker` among them a live
    worker is asked, not the recording. pace: called before each frame with its place on the `Timeline`.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        model: Path | None = None,
        engine: str | None = None,
        link: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        times: int = 1,
        state: Path | None = None,
        expect: Path | None = None,
        options: Mapping[str, Any] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.source: Source = open_source(str(source))
        self.part = Part(start_s=start_s, end_s=end_s, times=times)
        self.corrections: list[Result] = []
        recorded = self.source if isinstance(self.source, Recording) else None
        options = dict(options or {})
        if model is None and recorded is None:
            raise DeviceError(f"{source}: only recordings bring their model along; give one with --model")
        if expect is not None and times != 1:
            raise DeviceError("what is expected is one pass; leave --loop out")
        self._asks_recording = recorded is not None and options.get("broker") is None
        if link is not None and not self._asks_recording:
            raise DeviceError(
                "a link profile needs recorded answers; record them once (--broker ... --record out.mcap), then: "
                f"ecc-device replay out.mcap --link {link:.20}"
            )
        self._schedule = None if link is None else LinkSchedule(link_profile(link))
        self._expected = None if expect is None else Expectation(Recording(expect), self.part)
        self._model, self._engine, self._state, self._options = model, engine, state, options
        self._pace = pace
        self._timeline = Timeline()
        self._recorded, self._swaps = recorded, True
        # a live worker is really waited for, recorded answers come by the recording's time
        self._clock = SimulatedClock() if self._asks_recording else VirtualClock()
        self._answers: RecordedAnswers | None = None
        self._cleanup = contextlib.ExitStack()
        self._device: Device | None = None

    @property
    def length(self) -> int | None:
        """How many results there will be; None where nobody knows."""
        whole = self.part.start_s is None and self.part.end_s is None and self.part.times > 0
        return self.source.length * self.part.times if whole and self.source.length is not None else None

    @property
    def notes(self) -> list[str]:
        """What whoever replays should know: that the recording was cut off, that another model answers."""
        recorded, notes = self._recorded, []
        if recorded is not None and recorded.cut_off is not None:
            notes.append(f"{recorded.name}: {recorded.cut_off}; it holds {recorded.length} whole frames")
        if recorded is not None and not self._swaps:
            notes.append(f"{recorded.name}: recorded with another model than the one that answers now")
        return notes

    @property
    def device(self) -> Device:
        """The device that replays, while the replay is open."""
        if self._device is None:
            raise DeviceError("this replay is not open; use it as: with Replay(...) as replay")
        return self._device

    def __enter__(self) -> Replay:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._device = None
        self._cleanup.close()

    def __iter__(self) -> Iterator[Result]:
        return (result for result, _ in self.run())

    def run(self) -> Iterator[tuple[Result, str | None]]:
        """Results with the frames' own labels."""
        for result, truth in play(self.source, self.device, self._clock, self.part, self._before):
            if self._expected is not None:
                self._expected.check(result)
            yield result, truth
        if self._expected is not None:
            self._expected.end()

    def _open(self, stack: contextlib.ExitStack) -> None:
        stack.callback(self.source.close)
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ecc-replay-")))
        if self._recorded is not None:
            self._recorded.write_models(self._folder)
        config = self._config()
        device = Device(config, clock=self._clock)
        stack.callback(device.close)
        if self._recorded is not None:
            self._fits(self._recorded, device.runtime.model)
            self._swaps = device.runtime.model.sha256 == self._recorded.models[0].sha256
        if self._recorded is not None and isinstance(self._clock, SimulatedClock):
            deadline_s = config.deadline_s
            self._answers = RecordedAnswers(self._recorded, device.store, self._clock, deadline_s, self._schedule)
        self._device = device.start(watch=False, asked=self._answers)
        device.runtime.on_result(self._corrected)

    def _config(self) -> DeviceConfig:
        options: dict[str, Any] = {} if self._recorded is None else _checked(self._recorded)
        if self._asks_recording:
            options.pop("encoder", None)  # nothing is encoded, and another model may lack it
        options |= self._options
        options = {"patience_s": PATIENCE_S} | options
        if self._asks_recording:
            options["patience_s"] = None
        if self._recorded is not None and self._recorded.content == "spikes":
            options |= {"record_as": "spikes"}  # there are no pixels
        state = self._folder / "state" if self._state is None else self._state
        return DeviceConfig(model=self._first_model(), state=state, engine=self._engine, **options)

    def _first_model(self) -> Path:
        if self._model is not None or self._recorded is None:
            return self._model or Path()
        return self._attached(self._recorded.models[0])

    def _attached(self, model: ModelInUse) -> Path:
        path = self._folder / f"{model.sha256}.pt"
        if not path.exists():
            raise SourceError(
                f"{self.source.name}: the file of model {model.no} is not in it, or is damaged; give it with --model"
            )
        return path

    def _fits(self, recorded: Recording, model: EdgeModel) -> None:
        made = recorded.models[0].features_id
        if recorded.content == "spikes" and model.program.features_id != made:
            raise SourceError(
                f"{recorded.name}: holds spikes of features {made[:8]}, and this model makes "
                f"{model.program.features_id[:8]}; replay it with the model that recorded it"
            )

    def _before(self, step: Step) -> None:
        """What has to happen before the step's frame is classified."""
        for happened in step.before:
            if isinstance(happened, ModelInUse):
                self._use(happened)
            elif self._answers is not None:
                self._answers.deliver(happened, step.offset)
        if self._answers is not None:
            self._answers.next(step)
            self._repeat_backlog(step)
        if self._pace is not None:
            self._pace(self._timeline.at(step.frame.time_s))

    def _repeat_backlog(self, step: Step) -> None:
        """What rows of earlier frames took from the upload budget: nothing is asked again in a replay."""
        budget, said = self.device.runtime.budget, step.decision.get("budget")
        if budget is not None and said is not None:
            budget.repeat(said["backlog"])

    def _use(self, model: ModelInUse) -> None:
        """Answer with the model that answered then; a model of the user's own only takes its first number."""
        runtime = self.device.runtime
        if self._swaps:
            changed = runtime.model.sha256 != model.sha256
            self.device.swap(read_edge(self._attached(model)) if changed else runtime.model, model.no)
        elif self._recorded is not None and model == self._recorded.models[0]:
            self.device.swap(runtime.model, model.no)

    def _corrected(self, result: Result) -> None:
        self.corrections.append(result)
        if self._expected is not None:
            self._expected.check(result, "correction")


def _checked(recording: Recording) -> dict[str, Any]:
    """The options that a recording was made with: those of this version, none that names a place."""
    kinds = get_type_hints(DeviceConfig)
    try:
        unknown = recording.options.keys() - (kinds.keys() - NOT_REPEATED)
        if unknown:
            raise ValueError(", ".join(sorted(unknown)))
        return {name: msgspec.convert(value, kinds[name]) for name, value in recording.options.items()}
    except (ValueError, msgspec.ValidationError) as exc:
        raise SourceError(
            f"{recording.name}: recorded with options that this version of ecc-snn does not know ({exc}); "
            "replay it with the version that made it"
        ) from exc
