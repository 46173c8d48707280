#!/usr/bin/env python3
"""Writes tests/golden/learn/*.json: the losses of training steps and of loss functions as PyTorch
computes them. The networks are those of `selvage new`, whose weights depend on the seed alone, and
published ones in .deps/models (tools/setup); the batches are drawn by a formula that the C++ tests
share.

    apt install python3-torch python3-onnx
    /usr/bin/python3 tools/golden/learn.py build/dev/src/cli/selvage
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # Two threads on a busy machine would spin.
import numpy as np
import onnx
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "learn"
sys.path.insert(0, str(ROOT / "tools" / "peers"))
import onnx_torch  # noqa: E402

STEPS = 100
AGREEMENT = 1e-3  # Of PyTorch with itself, at one and two threads, where all steps are compared.
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
    lines = ",\n".join(json.dumps(entry) for entry in content)
    (OUT / name).write_text(f"[\n{lines}\n]\n")


NETWORKS = [
    # name, input, classes, batch, learning rate, momentum
    ("mlp", [1, 28, 28], 10, 16, 0.05, 0.9),
    ("lenet5", [1, 28, 28], 10, 16, 0.05, 0.9),
    ("cnn1d", [2, 64], 5, 8, 0.01, 0.9),
    ("resnet20", [3, 16, 16], 10, 8, 0.00003, 0.9),
    ("mobilenet-small", [3, 16, 16], 10, 8, 0.0001, 0.9),
    ("vit-tiny", [3, 16, 16], 10, 2, 0.001, 0.0),
    ("gru", [12, 6], 5, 8, 0.05, 0.9),
    ("autoencoder", [24], 10, 16, 0.05, 0.9),
]


def losses_of(proto, batch_of, loss_of, rate, momentum, threads, train=None):
    """Of STEPS steps; `train`: only parameters whose names begin with one of these, by the running
    statistics that the file has."""
    torch.set_num_threads(threads)
    model = onnx_torch.Model(proto)
    model.train(train is None)
    chosen = [w for name, w in model.weights.items() if train is None or name.startswith(train)]
    optimizer = torch.optim.SGD(chosen, lr=rate, momentum=momentum)
    losses = []
    for step in range(STEPS):
        x = batch_of(step)
        loss = loss_of(model(x)[0], x, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compared(name, **arguments):
    """The losses as far as PyTorch agrees with itself; the first 20 in any case."""
    one, two = (losses_of(threads=threads, **arguments) for threads in (1, 2))
    differences = [abs(a - b) / abs(a) for a, b in zip(one, two)]
    steps = STEPS if max(differences) <= AGREEMENT else 20
    print(f"{name}: PyTorch differs from itself by {max(differences[:20]):.1e} in 20 steps, "
          f"{max(differences):.1e} in {STEPS}; {steps} are kept")
    return {"losses": [float(f"{loss:.7g}") for loss in one[:steps]]}


def train(program, name, shape, count, batch, rate, momentum):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        size = "x".join(map(str, shape))
        subprocess.run(
            [program, "new", name, str(path), "--input", size, "--classes", str(count), "--seed", "1"],
            check=True, stdout=subprocess.DEVNULL,
        )
        proto = onnx.load(str(path))

    def loss_of(y, x, step):
        if name == "autoencoder":
            return F.mse_loss(y, x)
        return F.cross_entropy(y, classes(43, step, [batch], count))

    return {
        "model": name, "input": shape, "classes": count, "batch": batch, "learning_rate": rate, "momentum": momentum,
        **compared(
            name, proto=proto, batch_of=lambda step: uniform(42, step, [batch, *shape]), loss_of=loss_of,
            rate=rate, momentum=momentum,
        ),
    }


PUBLISHED = [
    # file, input, the value whose mean squared difference from random numbers is the loss, learning
    # rate, what the names of the trained parameters begin with
    (
        "blazeface-front", [1, 128, 128, 3],
        "StatefulPartitionedCall/functional_1/re_lu_15/Relu:0", 0.0001, [""],
    ),
    ("ppocr-rec", [2, 3, 48, 80], "p2o.Add.277", 0.01, ["linear_", "layer_norm_"]),
]


def constants_as_initialisers(graph):
    """Some files store weights as Constant nodes."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(next(a.t for a in node.attribute if a.name == "value"))
        tensor.name = node.output[0]
        graph.node.remove(node)


def train_published(name, shape, value, rate, prefixes):
    proto = onnx.load(str(ROOT / ".deps" / "models" / name / "model.onnx"))
    del proto.graph.output[1:]
    proto.graph.output[0].name = value
    constants_as_initialisers(proto.graph)
    return {
        "model": name, "input": shape, "value": value, "learning_rate": rate, "momentum": 0.9, "train": prefixes,
        **compared(
            name, proto=proto, batch_of=lambda step: uniform(42, step, shape),
            loss_of=lambda y, x, step: F.mse_loss(y, uniform(43, step, y.shape)),
            rate=rate, momentum=0.9, train=tuple(prefixes),
        ),
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
    write("published.json", [train_published(*network) for network in PUBLISHED])


main()
