#!/usr/bin/env python3
"""`selvage quantize`, `selvage diff` and `selvage evaluate` as a user runs them.

  tests/cli/quantize_test.py PROGRAM DEPS
"""

import random
import resource
import struct
import sys
import unittest
import xml.etree.ElementTree

import fixtures
from cli_test import DEPS, Case, run


def network(beside=None):
    """y [n,4,8,8] = conv(relu(conv(x [n,3,8,8]))). The weights go into `beside`, if there is one."""
    numbers = random.Random(1)

    def weights(name, shape):
        count = 1
        for size in shape:
            count *= size
        values = [numbers.gauss(0, 0.3) for _ in range(count)]
        if beside is None:
            return fixtures.floats(name, shape, values)
        beside.append(values)
        return fixtures.external_floats(name, shape, f"{name}.bin")

    return fixtures.model(
        [
            fixtures.node("Conv", ["x", "w1"], ["a"]),
            fixtures.node("Relu", ["a"], ["b"]),
            fixtures.node("Conv", ["b", "w2"], ["y"]).replace(b"conv_1", b"conv_2"),
        ],
        [fixtures.value_info("x", ["n", 3, 8, 8])],
        [fixtures.value_info("y", ["n", 4, 8, 8])],
        [weights("w1", [64, 3, 1, 1]), weights("w2", [4, 64, 1, 1])],
    )


class QuantizeTest(Case):
    def setUp(self):
        super().setUp()
        numbers = random.Random(2)
        values = [numbers.gauss(0, 1) for _ in range(12 * 3 * 8 * 8)]
        self.model = self.write("model.onnx", network())
        self.data = self.write("x.npy", fixtures.npy(values, (12, 3, 8, 8)))
        self.out = self.folder / "small.onnx"

    def test_static(self):
        before = self.model.read_bytes()
        report = self.json_of("quantize", self.model, self.out, "--data", self.data)
        self.assertEqual(self.model.read_bytes(), before)
        self.assertEqual(report["calibration_samples"], 12)
        self.assertEqual(report["quantized_nodes"], 3)
        self.assertEqual(report["kept"], [])
        self.assertGreater(report["agreement"]["sqnr_db"], 25)
        self.assertEqual(report["after"]["file_bytes"], self.out.stat().st_size)
        types = {part["type"] for part in self.json_of("inspect", self.out)["parameters"]}
        self.assertIn("int8", types)

    def test_every_calibration_and_format(self):
        for options in (
            ["--calibration", "entropy"],
            ["--calibration", "percentile", "--percentile", "99.9"],
            ["--calibration", "mse", "--symmetric"],
            ["--moving-average", "0.1"],
            ["--per-channel", "--activations", "uint8", "--format", "qoperator"],
            ["--activations", "uint16", "--weights", "int8"],
            ["--weights", "int4", "--per-channel", "--correct-bias"],
            ["--equalize", "--reduce-range", "--float-bias"],
            ["--override", "a=type:uint16,min:-4,max:4", "--memory", "1"],
        ):
            report = self.json_of(
                "quantize", self.model, self.out, "--data", self.data, "--no-measure", *options)
            self.assertEqual(report["quantized_nodes"], 3, options)

    def test_text(self):
        text = self.output_of("quantize", self.model, self.out, "--data", self.data,
                              "--exclude-nodes", "relu_1")
        self.assertIn("p50 of a run", text)
        self.assertIn("1 operator kept in float", text)
        self.assertIn("excluded", text)

    def test_dynamic_and_weight_only(self):
        model = self.write("matmul.onnx", fixtures.matmul_model())
        for options in (["--dynamic"], ["--weight-only", "--block", "16", "--bits", "8"],
                        ["--weight-only", "--block", "16", "--rounding", "hqq"]):
            report = self.json_of("quantize", model, self.out, *options)
            self.assertEqual(report["quantized_nodes"], 1, options)

    def test_half_floats(self):
        report = self.json_of("quantize", self.model, self.out, "--to", "float16", "--storage")
        self.assertEqual(report["quantized_weights"], 2)
        self.assertLess(report["after"]["parameter_bytes"], report["before"]["parameter_bytes"])
        self.json_of("quantize", self.model, self.out, "--to", "float16")

    def test_refusals(self):
        self.assertIn("--data", self.fails(1, "quantize", self.model, self.out))
        self.assertIn("--data", self.fails(1, "quantize", self.model, self.out, "--static"))
        self.assertIn("is the model itself",
                      self.fails(1, "quantize", self.model, self.model, "--data", self.data))
        self.assertIn("conv_9", self.fails(1, "quantize", self.model, self.out, "--data", self.data,
                                           "--exclude-nodes", "conv_9"))
        self.assertIn("no number", self.fails(1, "quantize", self.model, self.out, "--data",
                                              self.data, "--override", "a=min:x"))
        self.assertIn("no MatMul", self.fails(1, "quantize", self.model, self.out, "--weight-only"))
        self.assertFalse(self.out.exists())
        self.json_of("quantize", self.model, self.out, "--data", self.data, "--no-measure")
        again = self.folder / "again.onnx"
        self.assertIn("already quantised",
                      self.fails(1, "quantize", self.out, again, "--data", self.data))
        self.assertFalse(again.exists())

    def test_overrides_that_say_nothing_that_can_be(self):
        for override, message in {
            "a=min:nan": "no number",
            "a=min:5,max:1": "minimum above its maximum",
            "a=scale:0.1,zero-point:999": "outside of its type",
            "a=symmetric:maybe": "yes or no",
            "a=": "write TENSOR=KEY:VALUE",
        }.items():
            with self.subTest(override):
                self.assertIn(message, self.fails(1, "quantize", self.model, self.out, "--data",
                                                  self.data, "--override", override))
        self.assertFalse(self.out.exists())

    def test_options_of_another_way_are_refused(self):
        for options, message in {
            ("--dynamic", "--calibration", "mse"): "--dynamic excludes --calibration",
            ("--data", self.data, "--bits", "8"): "--bits requires --weight-only",
            ("--to", "float16", "--per-channel"): "--to excludes --per-channel",
            ("--weight-only", "--equalize"): "--weight-only excludes --equalize",
        }.items():
            with self.subTest(options):
                self.assertIn(message, self.fails(2, "quantize", self.model, self.out, *options))

        for options in (("--percentile", "99"), ("--bins", "256"),
                        ("--moving-average", "0.1", "--calibration", "mse")):
            with self.subTest(options):
                self.assertIn(options[0] + " means nothing to --calibration",
                              self.fails(1, "quantize", self.model, self.out, "--data", self.data,
                                         *options))

    def test_nothing_that_is_read_is_written_over(self):
        def refuses(message, *arguments):
            before = self.contents()
            self.assertIn(message, self.fails(1, *arguments))
            self.assertEqual(self.contents(), before)

        data = ("--data", self.data)
        refuses("is read or written as well", "quantize", self.model, self.data, *data)
        refuses("no folder", "quantize", self.model, self.folder / "none/small.onnx", *data)
        self.json_of("quantize", self.model, self.out, *data, "--no-measure")
        for path in (self.model, self.out, self.data):
            refuses(": name another file", "diff", self.model, self.out, *data, "--plot", path)

    def contents(self):
        return {name: (self.folder / name).read_bytes() for name in self.files()}

    def test_weights_beside_the_model(self):
        """The weights are read from their file, and stay there."""
        weights = []
        model = self.write("split/model.onnx", network(beside=weights))
        for name, values in zip(("w1", "w2"), weights, strict=True):
            external = self.write(f"split/{name}.bin", struct.pack(f"<{len(values)}f", *values))
        content = external.read_bytes()
        for options in (["--data", self.data], ["--to", "float16"]):
            report = self.json_of("quantize", model, self.out, *options)
            self.assertGreater(report["after"]["parameters"], 0)
        whole = self.folder / "whole.onnx"
        self.json_of("quantize", self.model, whole, "--to", "float16")
        self.assertEqual(whole.read_bytes(), self.out.read_bytes())
        self.json_of("diff", model, self.model, "--data", self.data)
        self.assertIn("holds the weights", self.fails(1, "quantize", model, external, "--to", "float16"))
        self.assertEqual(external.read_bytes(), content)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir() if path.name != "cache")

    def test_a_full_disk_leaves_what_was_there(self):
        """A limit of a file's size fails the write exactly as a full disk does."""
        before = self.model.read_bytes()
        self.out.write_text("what was there")
        files = self.files()
        code, out, error = run(
            "quantize", self.model, self.out, "--data", self.data,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
        )  # fmt: skip
        self.assertEqual((code, out), (1, ""))
        self.assertRegex(error, "selvage: .*small.onnx': File too large")
        self.assertEqual(self.out.read_text(), "what was there")
        self.assertEqual(self.model.read_bytes(), before)
        self.assertEqual(self.files(), files)

    def test_an_interrupt_leaves_nothing(self):
        pictures = self.folder / "pictures"  # Enough of them for many seconds of calibration.
        pictures.mkdir()
        for i in range(200):
            (pictures / f"{i}.png").symlink_to((DEPS / "data/opencv/notes.png").resolve())
        files = self.files()
        printed, _ = self.interrupted(
            "quantize", DEPS / "models/ppocr-det", self.out, "--data", pictures, "--calibration",
            "entropy", after=1,
        )  # fmt: skip
        self.assertEqual(printed, "")
        self.assertEqual(self.files(), files)

    def test_diff(self):
        self.json_of("quantize", self.model, self.out, "--data", self.data, "--no-measure")
        plot = self.folder / "layers.svg"
        report = self.json_of("diff", self.model, self.out, "--data", self.data)
        found = [value["sqnr_db"] for value in report["values"]]
        self.assertEqual(found, sorted(found))
        self.assertGreater(found[0], 20)
        self.assertIn("y", [value["name"] for value in report["values"]])
        code, _, note = run("diff", self.model, self.out, "--data", self.data, "--plot", plot)
        self.assertEqual(code, 0, note)
        self.assertIn("layers.svg", note)
        xml.etree.ElementTree.parse(plot)
        error = self.fails(2, "evaluate", self.model, "--data", self.data, "--batch", "1.5")
        self.assertIn("not a whole number", error)
        text = self.output_of("diff", self.model, self.out, "--data", self.data, "--top", "1")
        self.assertIn("--top shows more", text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
