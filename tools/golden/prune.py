#!/usr/bin/env python3
"""Writes tests/golden/prune/expected.json: the masks that torch.nn.utils.prune makes. The C++ tests of
unstructured pruning compare with them, weight by weight.

    apt-get install python3-torch        # made with PyTorch 1.13.1
    /usr/bin/python3 tools/golden/prune.py
"""

import json
from pathlib import Path

import torch
from torch.nn.utils import prune

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "prune" / "expected.json"
SHAPES = [(6, 8), (8, 5), (5, 30)]
METHODS = {
    "l1": (prune.l1_unstructured, prune.L1Unstructured),
    "random": (prune.random_unstructured, prune.RandomUnstructured),
}


def layers():
    """Modules whose weights are the same in every case."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for rows, columns in SHAPES:
        layer = torch.nn.Linear(columns, rows, bias=False)
        layer.weight = torch.nn.Parameter(torch.randn(rows, columns, generator=generator))
        made.append(layer)
    return made


def masks_of(method, amounts, seed, is_global):
    """The masks after pruning once for each of `amounts`, one upon the other."""
    pruned = layers()
    torch.manual_seed(seed)
    for amount in amounts:
        # A file keeps no generator: each call of ours begins with the seed.
        torch.manual_seed(seed)
        if is_global:
            parameters = [(layer, "weight") for layer in pruned]
            prune.global_unstructured(parameters, METHODS[method][1], amount=amount)
        else:
            for layer in pruned:
                METHODS[method][0](layer, "weight", amount=amount)
    return [layer.weight_mask.int().flatten().tolist() for layer in pruned]


def main():
    cases = []
    for method in METHODS:
        for is_global in (False, True):
            for amounts in ([0.3], [0.5, 0.3], [7], [0.25, 3], [0.0], [1.0], [0.0125]):
                for seed in (0, 7) if method == "random" else (0,):
                    cases.append(
                        {
                            "method": method,
                            "global": is_global,
                            "amounts": amounts,
                            "seed": seed,
                            "masks": masks_of(method, amounts, seed, is_global),
                        }
                    )
    weights = [
        {"shape": list(layer.weight.shape), "values": layer.weight.flatten().tolist()}
        for layer in layers()
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"weights": weights, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
