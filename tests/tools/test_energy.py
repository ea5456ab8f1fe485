import pytest
import torch
import torch.nn.functional as F

from ecc_tools.collaborate.operations import dense_macs, sections_mj
from ecc_tools.energy import CONSTANTS, energy_mj, link_mj, link_ms, paper_cloud_watts
from ecc_tools.evaluation.counting import LayerOperations, Operations


def test_a_vit_costs_81_mj_and_not_what_the_paper_says():
    mj = energy_mj(CONSTANTS["ViT-B/16"].value, CONSTANTS["mac"].value)
    assert mj == pytest.approx(80.8, abs=0.05)
    assert CONSTANTS["cloud energy"].value / mj == pytest.approx(188, abs=1)
    assert paper_cloud_watts() == pytest.approx(3527, abs=1)


def test_the_link_by_hand():
    assert link_mj(1000, 100) == pytest.approx(2.27 + 0.11)
    assert link_ms(1000, 1500) == pytest.approx(10 + 20_000 / 20_000)


def test_every_constant_says_what_it_is_and_whose():
    assert {constant.kind for constant in CONSTANTS.values()} == {"modelled", "assumed", "paper", "counted"}
    assert all(constant.value > 0 and constant.unit and constant.source for constant in CONSTANTS.values())
    assert {name for name, constant in CONSTANTS.items() if constant.kind == "assumed"} == {
        *("link up", "link down", "link rate", "link round trip"),
    }


def test_a_layer_adds_where_spikes_come_and_multiplies_where_pixels_do():
    layers = [
        LayerOperations(place="head.0", passes=1.0, macs=1_000_000),
        LayerOperations(place="head.1", passes=2.0, macs=4_000_000, spiking=True, sops=800_000.0),
        LayerOperations(place="exit.0", passes=2.0, macs=2_000_000, spiking=True, sops=0.0),
    ]
    operations = Operations(
        mean_firing=0.1, sops=0, sops_counted=0, dense=0, effective_macs=0, effective_acs=0, layers=layers
    )
    assert sections_mj(operations) == {"head": pytest.approx(4.6e-3 + 0.72e-3), "exit": 0.0}


@pytest.mark.parametrize(
    ("run", "macs"),
    [
        (lambda: torch.nn.Conv2d(3, 8, 3, padding=1)(torch.zeros(1, 3, 10, 10)), 8 * 27 * 100),
        (lambda: torch.nn.ConvTranspose2d(4, 8, 3, 2, 1, 1)(torch.zeros(2, 4, 5, 5)), 2 * 4 * 8 * 9 * 25),
        (lambda: torch.nn.Linear(10, 20)(torch.zeros(3, 10)), 600),
        (lambda: F.scaled_dot_product_attention(*[torch.zeros(1, 2, 7, 4)] * 3), 2 * 2 * 7 * 7 * 4),
    ],
    ids=["convolution", "transposed", "linear", "attention"],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_dense_products_are_counted(run, macs, mode):
    with mode():
        assert dense_macs(run) == macs
