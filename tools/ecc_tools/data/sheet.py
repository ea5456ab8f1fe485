"""A contact sheet: the first images of every class, a row each, with the class's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecc_model.optional import require
from ecc_tools.data.errors import DataUnreadable
from ecc_tools.data.parts import DataSet

COLUMNS = 12
CELL = 64  # pixels, at least: small images are enlarged by a whole factor
GAP = 4
TEXT_WIDTH = 150
TEXT_SIZE = 13


def write_sheet(data: DataSet, path: Path) -> tuple[int, int]:
    """Write a PNG of learning images; returns its (width, height). `DataUnreadable` where it cannot be written."""
    pillow, drawing, fonts = (require(f"PIL.{name}", "a contact sheet") for name in ("Image", "ImageDraw", "ImageFont"))
    part = data.learning()
    factor = max(1, CELL // max(part.frames.shape[1:3]))
    height, width = (side * factor + GAP for side in part.frames.shape[1:3])
    sheet: Any = pillow.new("RGB", (TEXT_WIDTH + COLUMNS * width + GAP, len(data.names) * height + GAP), "white")
    draw, font = drawing.Draw(sheet), fonts.load_default(TEXT_SIZE)
    for label, name in enumerate(data.names):
        top = GAP + label * height
        draw.text((GAP, top + (height - GAP) // 2), name, fill="black", font=font, anchor="lm")
        draw.rectangle((TEXT_WIDTH - GAP, top, sheet.width, top + height), fill="white")  # cuts a long name
        for column, row in enumerate(np.flatnonzero(part.labels == label)[:COLUMNS]):
            frame = part.frames[row].repeat(factor, axis=0).repeat(factor, axis=1)
            if frame.shape[-1] == 1:
                frame = frame[..., 0]
            sheet.paste(pillow.fromarray(frame), (TEXT_WIDTH + column * width, top))
    try:
        sheet.save(path, format="PNG")
    except OSError as exc:
        raise DataUnreadable(path, exc) from exc
    return sheet.width, sheet.height
