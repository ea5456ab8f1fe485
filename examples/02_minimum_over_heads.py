"""Why entropy is taken over all classes at once, and not as the smallest of one entropy per task.

A model that learnt its classes task by task may keep a head (a softmax) for each. The minimum of the heads' normalized
entropies falls with every head that is added, whatever the network knows: here the logits are pure noise.

python examples/02_minimum_over_heads.py --frames 2000
"""

from __future__ import annotations

import argparse

import numpy as np

from ecc_model.numerics import normalized_entropy, softmax

CLASSES, HEADS = 20, 5  # CIFAR-100 in five tasks
SPREAD = 2.0  # standard deviation of the logits
THRESHOLD = 0.7


def shares(frames: int, seed: int) -> list[tuple[int, float, float]]:
    """For 1 to `HEADS` heads: the share of frames above the threshold by the minimum, and by one softmax over all."""
    logits = np.random.default_rng(seed).normal(0.0, SPREAD, (frames, HEADS, CLASSES))
    rows = []
    for heads in range(1, HEADS + 1):
        seen = logits[:, :heads]
        smallest = sum(min(entropy(head) for head in frame) > THRESHOLD for frame in seen)
        joint = sum(entropy(frame.ravel()) > THRESHOLD for frame in seen)
        rows.append((heads, smallest / frames, joint / frames))
    return rows


def entropy(logits: np.ndarray) -> float:
    """Normalized entropy of the softmax of logits (N,)."""
    return normalized_entropy(softmax(logits.tolist()))


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--frames", type=int, default=2000, help="how many frames of noise")
    options.add_argument("--seed", type=int, default=0, help="of the noise")
    chosen = options.parse_args()

    print(f"uploads at threshold {THRESHOLD}, logits of noise, {CLASSES} classes a head")
    print("heads  minimum over heads  one softmax over all")
    for heads, smallest, joint in shares(chosen.frames, chosen.seed):
        print(f"{heads:5}  {smallest:18.1%}  {joint:20.1%}")


if __name__ == "__main__":
    main()
