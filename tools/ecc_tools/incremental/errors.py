"""What can be wrong with a comparison of learners."""

from __future__ import annotations

from ecc_model.errors import EccError


class IncrementalError(EccError):
    """Models, data and settings that do not fit each other, or a folder that holds other results."""
