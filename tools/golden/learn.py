#!/usr/bin/env python3
"""Writes tests/golden/learn/*.json: the losses of training steps and of loss functions as PyTorch
computes them. The networks are those of `selvage new`, whose weights depend on the seed alone; the
batches are drawn by a formula that the C++ tests share.

    apt install python3-torch python3-onnx
    /usr/bin/python3 tools/golden/learn.py build/dev/src/cli/selvage
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "learn"
sys.path.insert(0, str(ROOT / "tools" / "peers"))
import onnx_torch  # noqa: E402

STEPS = 20
MASK = (1 << 64) - 1


def mix(x):
    """SplitMix64's finaliser, on arrays of uint64: src/learn/random.h."""
    x = np.asarray(x, np.uint64)
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def stream(seed, number, count):
    start = mix(mix(np.uint64(seed)) ^ mix(np.uint64(~number & MASK)))
    with np.errstate(over="ignore"):
        return mix(start + np.arange(count, dtype=np.uint64))


def uniform(seed, number, shape):
    """In [0, 1)."""
    bits = stream(seed, number, int(np.prod(shape)))
    return torch.from_numpy(((bits >> np.uint64(40)).astype(np.float64) * 2.0**-24).astype(np.float32).reshape(shape))


def classes(seed, number, shape, count):
    bits = stream(seed, number, int(np.prod(shape)))
    return torch.from_numpy((bits % np.uint64(count)).astype(np.int64).reshape(shape))


def write(name, content):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(content, indent=1) + "\n")


NETWORKS = [
    # name, input, classes, batch, learning rate, momentum
    ("mlp", [1, 28, 28], 10, 16, 0.05, 0.9),
    ("lenet5", [1, 28, 28], 10, 16, 0.05, 0.9),
    ("cnn1d", [2, 64], 5, 8, 0.01, 0.9),
    ("resnet20", [3, 16, 16], 10, 8, 0.0001, 0.9),
    ("mobilenet-small", [3, 16, 16], 10, 8, 0.001, 0.9),
    ("vit-tiny", [3, 16, 16], 10, 2, 0.001, 0.0),
    ("gru", [12, 6], 5, 8, 0.05, 0.9),
    ("autoencoder", [24], 10, 16, 0.05, 0.9),
]


def train(program, name, shape, count, batch, rate, momentum):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        size = "x".join(map(str, shape))
        subprocess.run(
            [program, "new", name, str(path), "--input", size, "--classes", str(count), "--seed", "1"],
            check=True, stdout=subprocess.DEVNULL,
        )
        model = onnx_torch.load(path)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    losses = []
    for step in range(STEPS):
        x = uniform(42, step, [batch, *shape])
        y = model(x)[0]
        if name == "autoencoder":
            loss = F.mse_loss(y, x)
        else:
            loss = F.cross_entropy(y, classes(43, step, [batch], count))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {
        "model": name, "input": shape, "classes": count, "batch": batch, "learning_rate": rate,
        "momentum": momentum, "losses": losses,
    }


def loss_case(kind, shape, function, target, **options):
    """The loss of x, and its gradient, for x = 4 * uniform - 2."""
    x = (4 * uniform(7, 0, shape) - 2).requires_grad_()
    loss = function(x, target)
    loss.backward()
    return {
        "kind": kind, "shape": shape, **options, "target_type": str(target.dtype).split(".")[1],
        "target_shape": list(target.shape), "target": target.flatten().tolist(), "loss": loss.item(),
        "gradient": x.grad.flatten().tolist(),
    }


def supervised_contrastive(x, labels, temperature):
    z = F.normalize(x, dim=1)
    logits = z @ z.t() / temperature
    self = torch.eye(len(x), dtype=torch.bool)
    log_p = logits - torch.logsumexp(logits.masked_fill(self, float("-inf")), 1, keepdim=True)
    partners = (labels[:, None] == labels[None]) & ~self
    counts = partners.sum(1)
    per = -(log_p * partners).sum(1) / counts.clamp(min=1)
    return per.sum() / (counts > 0).sum()


def distillation(x, t, temperature):
    return (
        F.kl_div(F.log_softmax(x / temperature, 1), F.softmax(t / temperature, 1), reduction="batchmean")
        * temperature**2
    )


def losses():
    shape, weights = [4, 5], [0.5, 1.0, 2.0, 0.25, 1.5]
    labels = classes(8, 0, [4], 5)
    ignored = labels.clone()
    ignored[1] = -100
    soft = F.softmax(4 * uniform(9, 0, shape), 1)
    numbers = 4 * uniform(10, 0, shape) - 2
    dense, dense_labels = [2, 3, 2, 2], classes(11, 0, [2, 2, 2], 3)
    weight = torch.tensor(weights)
    ctc_targets = torch.tensor([[1, 2, 2], [3, 0, 0]])
    cross = F.cross_entropy
    return [
        loss_case("cross-entropy", shape, cross, labels),
        loss_case("cross-entropy", dense, cross, dense_labels),
        loss_case("cross-entropy", shape, lambda x, t: cross(x, t, weight=weight), labels, class_weights=weights),
        loss_case("cross-entropy", shape, lambda x, t: cross(x, t, label_smoothing=0.1), labels, label_smoothing=0.1),
        loss_case("cross-entropy", shape, cross, ignored, ignore_index=-100),
        loss_case(
            "cross-entropy", shape,
            lambda x, t: cross(x, t, weight=weight, label_smoothing=0.2), ignored,
            class_weights=weights, label_smoothing=0.2, ignore_index=-100,
        ),
        loss_case("cross-entropy", shape, cross, soft, soft_targets=True),
        loss_case("binary", shape, F.binary_cross_entropy_with_logits, uniform(12, 0, shape)),
        loss_case("mean-squared", shape, F.mse_loss, numbers),
        loss_case("absolute", shape, F.l1_loss, numbers),
        loss_case("huber", shape, lambda x, t: F.huber_loss(x, t, delta=0.7), numbers, huber_delta=0.7),
        loss_case("distillation", shape, lambda x, t: distillation(x, t, 3.0), numbers, temperature=3.0),
        loss_case("cosine", shape, lambda x, t: (1 - F.cosine_similarity(x, t, -1)).mean(), numbers),
        loss_case(
            "contrastive", [6, 4], lambda x, t: supervised_contrastive(x, t, 0.5),
            torch.tensor([0, 1, 0, 2, 1, 0]), temperature=0.5,
        ),
        loss_case(
            "ctc", [6, 2, 4],
            lambda x, t: F.ctc_loss(F.log_softmax(x, 2), t, [6, 6], [3, 1]), ctc_targets,
        ),
    ]


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    write("losses.json", losses())
    if len(sys.argv) > 1:
        write("networks.json", [train(sys.argv[1], *network) for network in NETWORKS])


main()
