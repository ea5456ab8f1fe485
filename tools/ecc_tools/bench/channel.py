"""`ecc-tools bench channel`: what damage on the way costs, for spikes sent in every form.

Two channels: in a binary symmetric one each bit turns with some probability, in an erasure channel each byte is lost
and read as zero. A message is sent as raw bits, range coded, or range coded with the checksum; what the receiver
refuses counts as answered by the edge.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ecc_broker.codec import RAW, decode_spikes, encode_spikes
from ecc_model import bits, console
from ecc_model.bits import Spikes
from ecc_model.errors import WireError
from ecc_model.optional import require
from ecc_model.rates import RateTable
from ecc_tools.bench.encoders import EncoderOption

SHARES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
SEED = 0
Body = NDArray[np.uint8]
Channel = Callable[[Body, float, np.random.Generator], Body]


def turn_bits(body: Body, share: float, chance: np.random.Generator) -> Body:
    """Each bit turned with probability `share`: a binary symmetric channel."""
    turned = np.packbits(chance.random(8 * len(body)) < share)
    return body ^ turned


def erase_bytes(body: Body, share: float, chance: np.random.Generator) -> Body:
    """Each byte lost with probability `share`, and read as zero: an erasure channel whose gaps nobody fills."""
    return np.where(chance.random(len(body)) < share, np.uint8(0), body)


CHANNELS: dict[str, Channel] = {"bits turned": turn_bits, "bytes erased": erase_bytes}


def forms(table: RateTable | None) -> dict[str, Callable[[Spikes], bytes]]:
    """The forms in which spikes are sent; the coded ones with the models' rate table."""
    found: dict[str, Callable[[Spikes], bytes]] = {"raw": lambda code: bytes([RAW]) + bits.pack(code)}
    if table is not None:
        found["coded"] = lambda code: encode_spikes(code, table)
        found["coded, checked"] = lambda code: encode_spikes(code, table, checksum=True)
    return found


def arrive(
    message: bytes, shape: tuple[int, ...], table: RateTable | None, channel: Channel, share: float, chance: Any
) -> Spikes | None:
    """What the receiver reads of a message; None if it refuses it. The codec byte arrives whole."""
    body = channel(np.frombuffer(message, np.uint8)[1:], share, chance)
    try:
        return decode_spikes(message[:1] + _without_padding(message[:1], body, shape), shape, table)
    except WireError:
        return None


def _without_padding(codec: bytes, body: Body, shape: tuple[int, ...]) -> bytes:
    """Raw bits whose padding was hit are read all the same: a receiver that expects damage clears it."""
    spare = -int(np.prod(shape)) % 8
    if codec[0] == RAW and spare:
        body = body.copy()
        body[-1] &= 0xFF << spare & 0xFF
    return body.tobytes()


def channel(
    edge: Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")],
    cloud: Annotated[Path, typer.Argument(help="The worker's model, e.g. cloud.pt.")],
    data: Annotated[str, typer.Option(help="A set, a folder of images per class, or an .npz with labels.")],
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Test frames to send, the first ones.")] = 2000,
    encoder: EncoderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accuracy of what the cloud answers when bits turn or bytes are lost on the way."""
    require("torch", "the cloud's network")
    found = _measure(edge, cloud, data, root, frames, encoder)
    if as_json:
        console.print_json(found)
    else:
        _print(found)


def _measure(edge: Path, cloud: Path, data: str, root: Path | None, most: int, encoder: str | None) -> dict[str, Any]:
    from ecc_tools.bench.pair import open_pair
    from ecc_tools.frame_by_frame import integer_logits
    from ecc_tools.stages import stages

    pair = open_pair(edge, cloud, data, root, encoder=encoder)
    model, worker, labelled, table = pair.model, pair.worker, pair.labelled, pair.table
    shown, truth = labelled.frames[:most], labelled.truth[:most]
    rows = []
    with stages("") as stage:
        told = stage("edge")
        codes = pair.codes(shown)
        own = [model.labels[int(row.argmax())] for row in integer_logits(model.program, shown)]
        sent = {form: [write(code) for code in codes] for form, write in forms(table).items()}
        told(1.0)
        told, settings = stage("channels"), [(c, f, s) for c in CHANNELS for f in sent for s in SHARES]
        for number, (name, form, share) in enumerate(settings, 1):
            chance, shape = np.random.default_rng(SEED), codes.shape[1:]
            read = [arrive(message, shape, table, CHANNELS[name], share, chance) for message in sent[form]]
            there = [(index, code) for index, code in enumerate(read) if code is not None]
            answers = list(own)
            arrived = [code for _, code in there]
            for (index, _), logits in zip(there, pair.answers(np.stack(arrived)) if arrived else [], strict=True):
                answers[index] = worker.labels[int(logits.argmax())]
            right = [answer == label for answer, label in zip(answers, truth, strict=True)]
            rows.append(
                {
                    "channel": name,
                    "sent_as": form,
                    "share": share,
                    "arrived": len(there) / len(codes),
                    "accuracy_arrived": float(np.mean([right[index] for index, _ in there])) if there else None,
                    "accuracy": float(np.mean(right)),
                }
            )
            told(number / len(settings))
    return {
        "schema": 1,
        "n": len(codes),
        "seed": SEED,
        "edge": {"file": str(edge), "sha256": model.sha256},
        "rows": rows,
        "machine": platform.machine(),
    }


def _print(found: dict[str, Any]) -> None:
    print(f"{'channel':14}{'sent as':16}{'share':>8}{'arrived':>10}{'right of these':>16}{'right in all':>14}")
    for row in found["rows"]:
        of_these = "-" if row["accuracy_arrived"] is None else f"{row['accuracy_arrived']:.2%}"
        print(
            f"{row['channel']:14}{row['sent_as']:16}{row['share']:8.1%}{row['arrived']:10.2%}{of_these:>16}{row['accuracy']:14.2%}"
        )
    print(f"n {found['n']} test frames, seed {found['seed']}; what does not arrive is answered by the edge")
