"""One of each message, as the golden files hold it."""

from __future__ import annotations

import numpy as np

from ecc_broker.codec import encode_logits, encode_pixels, encode_spikes
from ecc_broker.messages import (
    BAD_REQUEST,
    MORE_STEPS,
    Command,
    Event,
    FeaturesRequest,
    FrameRequest,
    Labels,
    Leading,
    Reply,
    Status,
    WireMessage,
)

SPIKES = np.random.default_rng(7).random((2, 4, 4, 4)) < 0.5  # 16 bytes
SPARSE_SPIKES = np.zeros((2, 64, 8, 8), dtype=bool)  # 1 KiB, nearly nothing of it left by zstd
SPARSE_SPIKES[1, 17, 3, 5] = True
PIXELS = np.random.default_rng(8).integers(0, 256, (4, 5, 3), dtype=np.uint8)
FLAT_PIXELS = np.full((2, 16, 16, 1), 9, dtype=np.uint8)
LOGITS = np.array([0.0, -1.5, 3.25, 1e30], dtype=np.float32)
ID4 = bytes.fromhex("a1b2c3d4")

# name of the golden file -> message whose bytes every version must produce
MESSAGES: dict[str, WireMessage] = {
    "features-raw": FeaturesRequest(65535, ID4, 2, 200, encode_spikes(SPIKES)),
    "features-leading": FeaturesRequest(65535, ID4, 1, 200, encode_spikes(SPIKES[:1])),
    "features-rest": FeaturesRequest(65535, ID4, 1, 150, encode_spikes(SPIKES, known=1), 1),
    "frame-raw": FrameRequest(1, 0, 0, 4, 5, 3, encode_pixels(PIXELS)),
    "reply-logits": Reply(65535, ID4, encode_logits(LOGITS)),
    "reply-refusal": Reply(0, bytes(4), b"", BAD_REQUEST, "no codec byte"),
    "reply-more-steps": Reply(65535, ID4, b"", MORE_STEPS),
    "labels-leading": Labels(ID4, ("0", "1"), (ID4, bytes(4)), (Leading(1, 30), Leading(0, 0))),
    "labels": Labels(ID4, ("0", "sechs", "κλάση"), (ID4, bytes(4))),
    "status": Status("online", ID4, 3, "0.1.0"),
    "command": Command("charging"),
    "event": Event("update", 1700000000.5, "accepted: 412 rows in 1.8 s"),
}
# the same where zstd is in it: its bytes may differ from release to release, what they decode to may not
ZSTD_MESSAGES: dict[str, WireMessage] = {
    "features-zstd": FeaturesRequest(2**40, ID4, 2, 0, encode_spikes(SPARSE_SPIKES)),
    "frame-zstd": FrameRequest(77, 600_000, 2, 16, 16, 1, encode_pixels(FLAT_PIXELS)),
}
EVERY = {**MESSAGES, **ZSTD_MESSAGES}
