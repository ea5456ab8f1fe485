"""What a classification says: both answers, which one stands, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ecc_device.explain import Explanation
from ecc_model.numerics import normalized_entropy, softmax

if TYPE_CHECKING:
    from ecc_device.budget import Spending
    from ecc_device.tickets import Forecast

Side = Literal["edge", "cloud"]

WHY = {
    "confident": "the edge was sure enough",
    "budget": "the frame was ambiguous, and the upload budget had no room for it",
    "cloud answered": "the frame was ambiguous and the cloud's answer came in time",
    "cloud less sure": "the cloud named a class that the edge knows, and was less sure than the edge",
    "deadline": "the cloud's answer did not come in time",
    "offline": "no broker, or no worker behind it",
    "incompatible": "the cloud's workers read other features than this device sends",
    "refused": "the worker refused the request",
    "not sent": "the link's window was full; the frame waits in the buffer",
    "too-large": "the request is larger than a message may be; the frame stays in the buffer",
    "buffer-too-small": "one row is larger than the whole buffer, so the frame was not sent",
    "disk-full": "no room to store the frame, so it was not sent",
    "disk-error": "the frame could not be stored, so it was not sent",
    "not recorded": "the recording that is replayed holds no answer of the cloud to this frame",
    "failed": "the frame could not be classified; there is no answer",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One side's answer. probabilities: one for each of `labels`; entropy: normalized, 0 (sure) to 1."""

    label: str
    probabilities: tuple[float, ...]
    labels: tuple[str, ...]
    entropy: float

    @property
    def probability(self) -> float:
        """Of the label; 0 without one."""
        return max(self.probabilities, default=0.0)


@dataclass(frozen=True, slots=True)
class Result:
    """One classified frame."""

    frame: int  # index in its source
    time_s: float  # the frame's stamp, by the device's clock
    edge: Answer
    cloud: Answer | None
    stands: Side
    why: str  # a key of `WHY`
    score: float  # the filter's; above the threshold a frame is ambiguous
    threshold: float
    row: int | None  # in the device's buffer, None for frames that were not stored
    bytes_sent: int  # payload of the request, or of both
    bytes_received: int  # payload of the reply, or of both
    model_no: int
    latency_s: float = field(compare=False)  # measured, so that a replay does not repeat it
    camera: str = ""  # of a device with several
    steps: int = 0  # time steps that the network ran
    filter: str = "entropy"  # whose score it is
    budget: Spending | None = None  # what the upload budget allowed this frame; None without a budget
    forecast: Forecast | None = field(default=None, compare=False)  # of the link, measured; None if it was not asked
    bytes_later: int = 0  # of `bytes_sent`: in a second request, where leading time steps did not do
    encoder: str = ""  # whose code went up, of a model with several
    encoder_why: str = ""  # a key of `choosing.WHY`; empty for the first one

    @property
    def answer(self) -> Answer:
        """The answer that stands."""
        return self.cloud if self.stands == "cloud" and self.cloud is not None else self.edge

    @property
    def label(self) -> str:
        """Of the answer that stands."""
        return self.answer.label

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of the answer that stands, in the order of `answer.labels`."""
        return self.answer.probabilities

    @property
    def entropy(self) -> float:
        """Normalized entropy of the answer that stands."""
        return self.answer.entropy

    @property
    def ambiguous(self) -> bool:
        """Whether the edge was unsure."""
        return self.score > self.threshold

    def explain(self) -> Explanation:
        """Why the answer is what it is: `print` it, or read its `facts`."""
        return Explanation(
            self.to_record()
            | {
                "filter": self.filter,
                "row": self.row,
                "bytes_sent": self.bytes_sent,
                "bytes_received": self.bytes_received,
                "bytes_later": self.bytes_later,
                "encoder": self.encoder,
                "encoder_why": self.encoder_why,
                "latency_s": self.latency_s,
                "reason": WHY.get(self.why, self.why),
                "forecast": None if self.forecast is None else self.forecast.to_record(),
            }
        )

    def to_record(self) -> dict[str, Any]:
        """For JSON: everything that a replay repeats to the last bit, whatever the buffer held before it."""
        return {
            "frame": self.frame,
            "camera": self.camera,
            "time_s": self.time_s,
            "label": self.label,
            "stands": self.stands,
            "why": self.why,
            "score": self.score,
            "threshold": self.threshold,
            "edge": _record(self.edge),
            "cloud": None if self.cloud is None else _record(self.cloud),
            "uploaded": self.bytes_sent > 0,
            "budget": None if self.budget is None else self.budget.to_record(),
            "steps": self.steps,
            "model_no": self.model_no,
        }


def _record(answer: Answer) -> dict[str, Any]:
    return {"label": answer.label, "entropy": answer.entropy, "probabilities": list(answer.probabilities)}


def make_answer(logits: Sequence[float], labels: tuple[str, ...], temperature: float) -> Answer:
    """Logits (N,) to an answer over N labels; portable bits. The first of equal probabilities wins."""
    probabilities = tuple(softmax(logits, temperature))
    label = labels[probabilities.index(max(probabilities))]
    return Answer(label, probabilities, labels, normalized_entropy(probabilities))


def choose(edge: Answer, cloud: Answer) -> tuple[Side, str]:
    """Which answer stands: the cloud's, unless it names a class that the edge knows and is less sure than the edge."""
    if cloud.label in edge.labels and cloud.entropy > edge.entropy:
        return "edge", "cloud less sure"
    return "cloud", "cloud answered"
