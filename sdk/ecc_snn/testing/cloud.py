"""A cloud that answers from a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np

from ecc_broker import codec, topics
from ecc_broker.messages import FeaturesRequest, FrameRequest, Labels, Reply, decode, encode
from ecc_model.errors import WireError
from ecc_model.modelfile import labels_id, read_edge

SURE = 8.0  # logit of the label that is named, above the others' 0


class TableCloud:
    """What a worker would say, without a network: the label that the table has for a row.

    model: the edge model whose features it reads. table: row -> label; a device numbers its ambiguous frames from 1 on
    in a new state folder. otherwise: the label for rows that are not in the table, None for no answer. labels: all
    classes, by default those of the model and of the table. delay_s: how long an answer takes, or from and to, drawn
    anew for each request by `seed`. `rows` holds the rows that were asked about, in order.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        table: Mapping[int, str] | None = None,
        *,
        otherwise: str | None = None,
        labels: Sequence[str] | None = None,
        delay_s: float | tuple[float, float] = 0.0,
        seed: int = 0,
    ) -> None:
        edge = read_edge(Path(model))
        self._table, self._otherwise = dict(table or {}), otherwise
        named = [*self._table.values(), *([] if otherwise is None else [otherwise])]
        self.labels = tuple(dict.fromkeys([*edge.labels, *named])) if labels is None else tuple(labels)
        unknown = sorted(set(named) - set(self.labels))
        if unknown:
            raise WireError(f"the table names '{unknown[0]}', which is none of the cloud's labels; add it to labels=")
        self._features = bytes.fromhex(edge.program.features_id)[:4]
        self._delay_s = delay_s if isinstance(delay_s, tuple) else (delay_s, delay_s)
        self._dice = Random(seed)
        self.rows: list[int] = []

    def announcement(self, site: str) -> tuple[str, bytes]:
        """Topic and payload of what a worker publishes when it comes up."""
        labels = Labels(labels_id(self.labels), self.labels, (self._features,))
        return topics.topic("labels", site), encode(labels)

    def answer(self, topic: str, payload: bytes) -> tuple[float, str, bytes] | None:
        """A request's answer: seconds that it takes, topic and payload; None where it says nothing."""
        _, _, name = topics.parse(topic)
        if name == "features":
            row = decode(FeaturesRequest, payload).id
        elif name == "frame":
            row = decode(FrameRequest, payload).id
        else:
            return None
        self.rows.append(row)
        delay_s = self._dice.uniform(*self._delay_s)
        label = self._table.get(row, self._otherwise)
        if label is None:
            return None
        logits = np.zeros(len(self.labels), np.float32)
        logits[self.labels.index(label)] = SURE
        reply = Reply(row, labels_id(self.labels), codec.encode_logits(logits))
        return delay_s, topics.reply_topic(topic), encode(reply)
