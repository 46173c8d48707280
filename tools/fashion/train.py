#!/usr/bin/env python3
"""Trains the small classifiers of Fashion-MNIST that compression is measured on.

  tools/fashion/train.py MODEL FOLDER [--epochs N] [--seed N]

MODEL is cnn (LeNet-like with batch norm), resnet (20 layers, 16-32-64 channels) or mobilenet
(depthwise separable). Writes FOLDER/model.onnx (opset 17, open batch, batch norm kept) and its card
FOLDER/model.yaml, and prints the accuracy on the test set. Needs Debian's python3-torch,
python3-onnx and dataset-fashion-mnist: run it with /usr/bin/python3. One thread and a fixed seed, so
that a machine makes the same file again.
"""

import argparse
import gzip
import pathlib

import numpy
import torch
from torch import nn

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
MEAN, DEVIATION = 0.2860, 0.3530  # Of the training set's pixels in [0, 1].
LABELS = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
EPOCHS = {"cnn": 5, "resnet": 5, "mobilenet": 5}
BATCH = 128


def read_set(name):
    """Normalised pictures [N,1,28,28] and labels [N] of "train" or "t10k"."""
    with gzip.open(DATA / f"{name}-images-idx3-ubyte.gz") as file:
        pixels = numpy.frombuffer(file.read(), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(DATA / f"{name}-labels-idx1-ubyte.gz") as file:
        labels = numpy.frombuffer(file.read(), numpy.uint8, offset=8)
    images = (torch.from_numpy(pixels.astype(numpy.float32)) / 255 - MEAN) / DEVIATION
    return images, torch.from_numpy(labels.astype(numpy.int64))


def conv(inputs, outputs, size=3, stride=1, groups=1):
    return [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def make_cnn():
    return nn.Sequential(
        *conv(1, 32), nn.ReLU(), nn.MaxPool2d(2),
        *conv(32, 64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(*conv(inputs, outputs, 3, stride), nn.ReLU(),
                                  *conv(outputs, outputs))
        plain = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Sequential(*conv(inputs, outputs, 1, stride))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def make_resnet():
    layers, inputs = [*conv(1, 16), nn.ReLU()], 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(Residual(inputs, outputs, stride if block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def make_mobilenet():
    layers, inputs = [*conv(1, 16), nn.ReLU6()], 16
    for outputs, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        layers += [*conv(inputs, inputs, 3, stride, groups=inputs), nn.ReLU6(),
                   *conv(inputs, outputs, 1), nn.ReLU6()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


MODELS = {"cnn": make_cnn, "resnet": make_resnet, "mobilenet": make_mobilenet}


def train(model, images, labels, epochs, generator):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4,
                                nesterov=True)
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, epochs=epochs,
                                                   steps_per_epoch=steps)
    loss_of = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = images[chosen]
            mirrored = torch.rand(len(batch), generator=generator) < 0.5
            batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
            optimiser.zero_grad()
            loss = loss_of(model(batch), labels[chosen])
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.4f}", flush=True)


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        right = sum((model(part).argmax(1) == truth).sum().item()
                    for part, truth in zip(images.split(500), labels.split(500)))
    return right / len(images)


def write_card(name, path, share):
    path.write_text(f"""\
name: fashion-{name}
description: Clothes in pictures of 28 x 28 pixels; {share:.2%} right on the test set
licence: MIT
source: trained on Fashion-MNIST (Zalando) by tools/fashion/train.py

input:
  kind: image
  colours: gray
  scale: 1/255
  mean: {MEAN}
  std: {DEVIATION}

output:
  kind: classification
  activation: softmax
  labels: [{", ".join(LABELS)}]
""")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()

    torch.manual_seed(flags.seed)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(flags.seed)
    model = MODELS[flags.model]()
    train(model, *read_set("train"), flags.epochs or EPOCHS[flags.model], generator)
    share = accuracy(model, *read_set("t10k"))
    print(f"fashion-{flags.model}: {share:.2%} of the test set")

    flags.folder.mkdir(parents=True, exist_ok=True)
    # PRESERVE: the exporter would fold batch norm by itself, which is our own work to show.
    torch.onnx.export(model, torch.zeros(1, 1, 28, 28), str(flags.folder / "model.onnx"),
                      training=torch.onnx.TrainingMode.PRESERVE, opset_version=17,
                      input_names=["image"], output_names=["scores"],
                      dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})
    write_card(flags.model, flags.folder / "model.yaml", share)


if __name__ == "__main__":
    main()
