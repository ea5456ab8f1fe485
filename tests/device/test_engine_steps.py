"""A frame run a few steps at a time: every engine emits the bits of the whole frame, and may stop after any step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.engines import ReferenceEngine, make_engine
from ecc_model import reference
from support.engines import installed_engines
from support.programs import frames_for, programs, trained


@pytest.mark.parametrize("name", installed_engines())
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_steps_one_after_the_other_are_the_steps_of_the_whole_frame(name: str, data: st.DataObject) -> None:
    program = data.draw(programs(most_steps=5))
    if name == "tflite":  # which knows trained leaks only
        program = trained(program)
    frame = data.draw(frames_for(program))
    whole = ReferenceEngine(program).head(frame)
    stops = data.draw(st.sets(st.integers(1, program.steps), min_size=1))
    engine = make_engine(name, program)
    for _ in range(2):  # a frame that stops early leaves nothing for the next one
        for start, stop in pairwise([0, *sorted(stops)]):
            split = engine.head(frame, start, stop)
            np.testing.assert_array_equal(split, whole[start:stop])
            logits = engine.exit(split, start)
            assert logits.tobytes() == reference.logits(program, whole[:stop]).tobytes()
