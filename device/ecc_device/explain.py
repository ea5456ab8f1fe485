"""Why a frame was answered as it was: one text for people, one dict for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ecc_device.choosing import WHY


class Explanation:
    """The facts of one classified frame, and how to say them; made by `Result.explain`, or from recorded facts.

    facts: values that JSON can hold; `str` gives the text, a line for each topic.

    | fact                                        | meaning                                                        |
    |---------------------------------------------|----------------------------------------------------------------|
    | `frame`, `camera`, `time_s`                 | which frame; the camera is empty where there is one            |
    | `label`, `stands`, `why`, `reason`          | the answer, whose it is, and why: a key and its sentence       |
    | `edge`, `cloud`                             | `label`, `entropy`, `probabilities`; `cloud` may be null       |
    | `filter`, `score`, `threshold`              | what was measured; above the threshold a frame is ambiguous    |
    | `budget`                                    | of `budget.Spending`; null without a budget                    |
    | `forecast`                                  | of `tickets.Forecast`; null where the cloud was not asked      |
    | `uploaded`, `bytes_sent`, `bytes_received`  | what crossed the link                                          |
    | `bytes_later`                               | of `bytes_sent`: in a second request, as the cloud needed more |
    | `encoder`, `encoder_why`                    | of a model with several: whose code, and a key of `choosing`'s |
    | `steps`, `model_no`, `row`, `latency_s`     | time steps, the model, the row in the buffer, measured seconds |
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    def __str__(self) -> str:
        return "\n".join(f"{name:<8}{text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        facts = self.facts
        camera = f", camera {facts['camera']}" if facts["camera"] else ""
        yield "frame", f"{facts['frame']}{camera}: {facts['label'] or 'no label'} ({facts['stands']})"
        yield "why", f"{facts['why']}: {facts['reason']}"
        yield "edge", _answer(facts["edge"])
        yield "cloud", _answer(facts["cloud"])
        above, verdict = ("above", "ambiguous") if facts["score"] > facts["threshold"] else ("not above", "sure")
        score = f"{facts['filter']} {facts['score']:.4f}"
        yield "score", f"{score}, {above} the threshold {facts['threshold']:.4f}: {verdict}"
        if facts["budget"] is not None:
            yield "budget", _budget(facts["budget"])
        if facts["forecast"] is not None:
            yield "link", _forecast(facts["forecast"])
        later = facts.get("bytes_later", 0)  # recordings of earlier versions do not say it
        second = f" ({later} of them in a second request)" if later else ""
        encoder, why = facts.get("encoder", ""), WHY.get(facts.get("encoder_why", ""), "")
        if encoder:
            yield "encoder", f"{encoder}: {why}" if why else encoder
        yield (
            "cost",
            f"{facts['bytes_sent']} bytes up{second}, {facts['bytes_received']} down, {facts['steps']} time steps, "
            f"model {facts['model_no']}, {1000 * facts['latency_s']:.1f} ms",
        )


def _answer(answer: Mapping[str, Any] | None) -> str:
    if answer is None or not answer["probabilities"]:
        return "no answer"
    return f"{answer['label']}, {max(answer['probabilities']):.1%} sure, entropy {answer['entropy']:.4f}"


def _budget(budget: Mapping[str, Any]) -> str:
    passing = "used up" if budget["threshold"] is None else f"scores above {budget['threshold']:.4f} go up"
    used = f"{budget['used']:.0f} " + (
        "requests in the last 1,000 frames" if "%" in budget["limit"] else "bytes in the last hour"
    )
    return f"{budget['limit']}: {passing}; {used}, {budget['room']:.0%} of the reserve left"


def _forecast(forecast: Mapping[str, Any]) -> str:
    if not forecast["asked"]:
        return "nothing was asked before"
    late = f"of the last {forecast['asked']} questions {forecast['late']} had none in time"
    answer_s = forecast["answer_s"]
    return late if answer_s is None else f"an answer takes about {1000 * answer_s:.1f} ms; {late}"
