"""What `ecc-device updates` and `ecc-device why-update` say of updates."""

import json
import re

import pytest

from ecc_device.learning.history import UpdateExplanation, find_update, updates
from ecc_device.store import Store, Version
from ecc_device.tables import verdict
from ecc_model.errors import DeviceError
from support.processes import run

FIGURES = {
    "accepted": True,
    "candidates": [{"learner": "analytic", "reason": "fine"}, {"learner": "both", "reason": "worse"}],
    "clear_changed": 1,
    "clear_entropy": 0.2,
    "clear_rows": 100,
    "contradicted": 2,
    "ece_after": 0.02,
    "ece_before": 0.05,
    "factory_loss_points": 1.47,
    "factory_rows": 204,
    "held_agreement_after": 0.9,
    "held_agreement_before": 0.1,
    "held_rows": 20,
    "judge_rows": 204,
    "known_loss_bound_points": 1.84,
    "known_loss_points": 0.49,
    "last_row": 144,
    "learner": "analytic",
    "new_classes": ["6", "7"],
    "reason": "held-out rows 10% -> 90%, and so on",
    "row_ids": [1, 2, 3],
    "rows": 132,
    "shadow_changed": 1,
    "shadow_clear": 40,
    "shadow_frames": 100,
    "shadow_new": 7,
    "skipped": {"lwf": "no torch"},
    "threshold": [0.5, 0.25],
    "unsure": 3,
    "worst_class": "4",
    "worst_class_loss_points": 2.94,
}


def version(no, state, parent=1, figures=FIGURES):
    return Version(no, f"{no}.pt", "0" * 64, bytes(32), parent, state, 12.5, figures)


FACTORY = version(1, "previous", None, {"reason": "factory model"})


def test_an_update_is_explained_in_words_with_its_figures():
    facts = find_update([FACTORY, version(2, "active")], 2)
    assert str(UpdateExplanation(facts)).splitlines() == [
        "model     2, learnt from model 1: active",
        "why       held-out rows 10% -> 90%, and so on",
        "learnt    by 'analytic' from 132 rows, new classes: 6, 7; 3 rows wait, the cloud was unsure; "
        "2 rows wait, the cloud contradicts a clear answer of the edge",
        "known     loses 0.5 points on 204 judging rows (90 % sure: loses less than 1.8), "
        "loses 1.5 points since the factory's model; 3.0 may be lost; most of all '4', 2.9 points",
        "held out  agrees with the cloud on 90% of 20 rows that were not learnt, 10% before; "
        "more than before and 33% are asked for",
        "sure      calibration error 0.050 -> 0.020, threshold 0.500 -> 0.250",
        "candidate analytic: fine",
        "candidate both: worse",
        "skipped   lwf: no torch",
        "shadow    in 100 frames 1 of 40 clear answers changed (the gate: 1 of 100); 7 more were taken for new classes",
    ]


def test_facts_have_no_row_numbers_and_factory_models_are_no_updates():
    [facts] = updates([FACTORY, version(2, "rejected")])
    assert (facts["no"], facts["parent"], facts["state"], facts["created_s"]) == (2, 1, "rejected", 12.5)
    assert facts["reason"] == FIGURES["reason"]
    assert facts["figures"].keys() == FIGURES.keys() - {"row_ids", "last_row", "reason"}


def test_an_update_of_which_only_the_reason_is_known_is_explained_too():
    bare = find_update([version(2, "rejected", figures={"reason": "the model could not be confirmed"})], 2)
    assert str(UpdateExplanation(bare)) == (
        "model     2, learnt from model 1: turned down\nwhy       the model could not be confirmed"
    )


def test_an_update_of_an_earlier_version_does_not_say_what_was_lost_since_the_factory():
    known = {name: value for name, value in FIGURES.items() if not name.startswith("factory")}
    text = str(UpdateExplanation(find_update([FACTORY, version(2, "active", figures=known)], 2)))
    assert "(90 % sure: loses less than 1.8); 3.0 may be lost; most" in text


def test_a_number_that_is_no_update_names_those_that_are():
    with pytest.raises(DeviceError, match=r"^model 1 is no update; there are: 2, 3$"):
        find_update([FACTORY, version(2, "active"), version(3, "rejected")], 1)
    with pytest.raises(DeviceError, match=r"^model 7 is no update; no update was made yet$"):
        find_update([FACTORY], 7)


def test_the_commands_read_a_state_folder(tmp_path):
    with Store.open(tmp_path) as store:
        for parent, figures in ((None, {"reason": "factory model"}), (1, FIGURES)):
            no = store.add_version(
                file="x.pt", sha256="0" * 64, features_id=bytes(32), parent=parent, figures=figures, time_s=12.5
            )
            store.begin_trial(no)
            store.confirm(no)
    told = run("ecc-device", "updates", "--state", tmp_path, "--json")
    [facts] = json.loads(told.stdout)
    assert (facts["no"], facts["state"], facts["figures"]["known_loss_points"]) == (2, "active", 0.49)
    table = run("ecc-device", "updates", "--state", tmp_path).stdout
    assert re.search(r"2 +1 +active +analytic +132 +6, 7 +0\.5 points +10% -> 90%", table)
    why = run("ecc-device", "why-update", 2, "--state", tmp_path)
    assert why.stdout.startswith("model     2, learnt from model 1: active\nwhy       held-out rows 10% -> 90%")
    assert run("ecc-device", "why-update", 3, "--state", tmp_path).stderr == (
        "error: model 3 is no update; there are: 2\n"
    )


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        ({"accepted": False, "no": 2, "shadow": 0}, "the model stays"),
        ({"accepted": True, "no": 2, "shadow": 100}, "model 2 takes over after 100 frames in the shadow"),
        ({"accepted": True, "no": 2, "shadow": 0}, "model 2 is active"),
    ],
)
def test_what_a_decision_means_for_the_model_that_answers(decision, text):
    assert verdict(decision) == text
