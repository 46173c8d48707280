#!/usr/bin/env python3
"""`selvage prune` as a user runs it.

  tests/cli/prune_test.py PROGRAM DEPS
"""

import gzip
import pathlib
import random
import resource
import struct
import sys
import unittest

import fixtures
from cli_test import DEPS, Case

MODELS = DEPS / "models"


def node(operator, inputs, outputs):
    """Named after its output: a model may not have two nodes of one name."""
    content = b"".join(fixtures.message(1, name) for name in inputs)
    content += b"".join(fixtures.message(2, name) for name in outputs)
    return content + fixtures.message(3, outputs[0]) + fixtures.message(4, operator)


def conv_model(hidden=32, nodes_reversed=False):
    """y [1,4,8,8] = conv(relu(conv(x [1,3,8,8])))."""
    numbers = random.Random(1)

    def weights(name, shape):
        count = 1
        for size in shape:
            count *= size
        return fixtures.floats(name, shape, [numbers.gauss(0, 0.3) for _ in range(count)])

    nodes = [
        node("Conv", ["x", "w1"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w2"], ["y"]),
    ]
    return fixtures.model(
        nodes[::-1] if nodes_reversed else nodes,
        [fixtures.value_info("x", [1, 3, 8, 8])],
        [fixtures.value_info("y", [1, 4, 8, 8])],
        [weights("w1", [hidden, 3, 1, 1]), weights("w2", [4, hidden, 1, 1])],
    )


class PruneTest(Case):
    def model(self, **options):
        return self.write("model.onnx", conv_model(**options))

    def test_channels_leave_until_half_the_work_is_left(self):
        model, out = self.model(), self.folder / "small.onnx"
        report = self.json_of("prune", model, out, "--macs", "50%")
        self.assertEqual(report["method"], "structured")
        self.assertEqual([(g["before"], g["after"]) for g in report["groups"]], [(32, 16)])
        self.assertEqual(report["frozen"][0]["reason"], "reaches the output 'y'")
        self.assertIn("at zero", report["verified"])
        self.assertEqual(report["after"]["macs"] * 2, report["before"]["macs"])
        self.assertEqual(report["after"]["parameters"] * 2, report["before"]["parameters"])
        inspected = self.json_of("inspect", out)
        self.assertEqual(inspected["macs"], report["after"]["macs"])

    def test_text(self):
        text = self.output_of("prune", self.model(), self.folder / "small.onnx", "--params", "0.8")
        for word in ("structured pruning", "MACs", "p50 of a run", "Channels that must stay"):
            self.assertIn(word, text)

    def test_a_measured_time(self):
        model = self.write("large.onnx", conv_model(hidden=1024))
        report = self.json_of("prune", model, self.folder / "fast.onnx", "--latency", "70%")
        self.assertLess(report["groups"][0]["after"], 1024)
        self.fails(1, "prune", model, self.folder / "fast.onnx", "--latency", "9000ms")

    def test_zeros_and_what_compression_makes_of_them(self):
        model, out = self.write("large.onnx", conv_model(hidden=512)), self.folder / "sparse.onnx"
        report = self.json_of("prune", model, out, "--method", "l1", "--amount", "80%", "--compress")
        self.assertAlmostEqual(report["zeros_after"], 0.8, places=2)
        self.assertLess(report["gzip_bytes_after"], 0.5 * report["gzip_bytes_before"])
        self.assertEqual(gzip.decompress(pathlib.Path(f"{out}.gz").read_bytes()), out.read_bytes())
        inspected = self.json_of("inspect", out)
        self.assertAlmostEqual(inspected["zero_weights"] / inspected["weights"], 0.8, places=2)
        self.assertIn("80.0 % of the weights are zero", self.output_of("inspect", out))
        text = self.output_of("prune", model, out, "--method", "nm", "--pattern", "1:4")
        self.assertIn("not time", text)

    def test_counts_and_seeds(self):
        model, out = self.model(), self.folder / "sparse.onnx"
        arguments = ("prune", model, out, "--method", "random", "--amount", "10")
        report = self.json_of(*arguments, "--seed", "3", "--global")
        self.assertEqual(sum(tensor["zeros"] for tensor in report["tensors"]), 10)
        first = out.read_bytes()
        self.json_of(*arguments, "--seed", "3", "--global")
        self.assertEqual(out.read_bytes(), first)
        self.json_of(*arguments, "--seed", "4", "--global")
        self.assertNotEqual(out.read_bytes(), first)

    def test_sensitivity_writes_nothing(self):
        data = self.folder / "data"
        for label in ("0", "1"):
            for i in range(4):
                picture = bytes(random.Random(i).randrange(256) for _ in range(3 * 64))
                self.write(f"data/{label}/{i}.ppm", b"P6 8 8 255\n" + picture)
        report = self.json_of("prune", self.classifier(), "--sensitivity", "--data", data)
        (group,) = report["sensitivity"]
        self.assertEqual([point["ratio"] for point in group["points"]], [0.25, 0.5, 0.75])
        self.assertEqual(sorted(p.name for p in self.folder.glob("*.onnx")), ["model.onnx"])
        out = self.folder / "small.onnx"
        report = self.json_of("prune", self.classifier(), out, "--amount", "0.5", "--data", data)
        self.assertIn("accuracy", report["after"])

    def classifier(self):
        """Two classes of a picture of 8 x 8 pixels."""
        numbers = random.Random(2)

        def weights(name, shape, count):
            return fixtures.floats(name, shape, [numbers.gauss(0, 0.3) for _ in range(count)])

        return self.write(
            "model.onnx",
            fixtures.model(
                [
                    node("Conv", ["x", "w1"], ["a"]),
                    node("GlobalAveragePool", ["a"], ["p"]),
                    node("Flatten", ["p"], ["f"]),
                    node("MatMul", ["f", "w2"], ["y"]),
                ],
                [fixtures.value_info("x", ["batch", 3, 8, 8])],
                [fixtures.value_info("y", ["batch", 2])],
                [weights("w1", [32, 3, 1, 1], 96), weights("w2", [32, 2], 64)],
            ),
        )

    def test_a_model_whose_nodes_are_unsorted(self):
        model = self.model(nodes_reversed=True)
        sample = self.write("x.npy", npy([1, 3, 8, 8]))
        self.output_of("run", model, sample)
        self.output_of("inspect", model)
        self.output_of("prune", model, self.folder / "small.onnx", "--amount", "0.5")

    def test_failures_leave_no_file(self):
        model, out = self.model(), self.folder / "out.onnx"
        cases = {
            ("--macs", "1%"): "at best",
            ("--macs", "100%"): "--macs 100%: more than nothing and less than all",
            ("--amount", "0"): "--amount 0: more than nothing and less than all",
            ("--macs", "lots"): "--macs lots: write a part of the whole",
            ("--amount", "1.5"): "--amount 1.5: write a part of the whole",
            ("--exclude", "nobody"): "'nobody'",
            ("--method", "l1", "--macs", "50%"): "--macs means nothing to --method l1",
            ("--method", "l1", "--amount", "1000"): "cannot prune 1000",
            ("--method", "nm", "--pattern", "five"): "--pattern five: write N:M",
            ("--method", "nm", "--amount", "0.5"): "--amount means nothing to --method nm",
            ("--sensitivity",): "add --data",
        }
        for arguments, message in cases.items():
            with self.subTest(arguments):
                self.assertIn(message, self.fails(1, "prune", model, out, *arguments))
                self.assertFalse(out.exists())
        self.assertIn("is missing", self.fails(1, "prune", model))
        self.assertIn("the model itself", self.fails(1, "prune", model, model))
        self.assertIn("no model", self.fails(1, "prune", self.folder / "none.onnx", out))
        self.assertIn("not an ONNX model",
                      self.fails(1, "prune", self.write("bad.onnx", b"\x08\x99"), out))
        self.assertFalse(out.exists())

    def test_options_of_another_method_are_refused(self):
        model, out = self.model(), self.folder / "out.onnx"
        for arguments in (
            ("--pattern", "1:4"),
            ("--seed", "3"),
            ("--method", "l1", "--round", "8"),
            ("--method", "l1", "--importance", "l2"),
            ("--method", "nm", "--global"),
        ):
            with self.subTest(arguments):
                self.assertIn("means nothing to", self.fails(1, "prune", model, out, *arguments))
        error = self.fails(1, "prune", model, out, "--sensitivity", "--data", self.folder)
        self.assertIn("writes nothing", error)
        for arguments in (("--macs", "50%"), ("--amount", "0.5"), ("--global",), ("--compress",)):
            error = self.fails(1, "prune", model, "--sensitivity", "--data", self.folder,
                               *arguments)
            self.assertIn(arguments[0] + " means nothing to --sensitivity", error)
        for option in ("--evaluate", "--label"):
            self.assertIn(option + " requires --data",
                          self.fails(2, "prune", model, out, option, "9"))
        seed = ("--method", "random", "--seed", "99999999999999999999")
        self.assertIn("--seed", self.fails(2, "prune", model, out, *seed))
        self.assertFalse(out.exists())

    def test_what_the_runtime_does_not_run_is_not_written(self):
        model = self.write("model.onnx", conv_model().replace(b"Relu", b"Rexu"))
        out = self.folder / "out.onnx"
        for method in ("l1", "structured"):
            self.assertIn("Rexu", self.fails(1, "prune", model, out, "--method", method))
        self.assertFalse(out.exists())

    def test_a_full_disk_leaves_what_was_there(self):
        model, out = self.model(), self.folder / "small.onnx"
        out.write_text("what was there")
        error = self.fails(
            1, "prune", model, out, "--macs", "50%", "--no-cache",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
        )  # fmt: skip
        self.assertIn("File too large", error)
        self.assertEqual(out.read_text(), "what was there")
        self.assertEqual([path.name for path in self.folder.glob("small*")], ["small.onnx"])

    def test_an_interrupt_leaves_nothing(self):
        out = self.folder / "small.onnx"
        printed, _ = self.interrupted(
            "prune", MODELS / "ppocr-det", out, "--latency", "50%", after=0.5
        )
        self.assertEqual(printed, "")
        self.assertEqual(list(self.folder.glob("small*")), [])

    def test_real_models(self):
        for name in ("blazeface-back", "ppocr-det", "mlsd-tiny"):
            with self.subTest(name):
                out = self.folder / f"{name}.onnx"
                report = self.json_of("prune", MODELS / name, out, "--params", "60%")
                self.assertLess(report["after"]["parameters"], 0.6 * report["before"]["parameters"])
                self.assertIn("at zero", report["verified"])


def npy(shape):
    count = 1
    for size in shape:
        count *= size
    header = repr({"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}).encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(4 * count)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
