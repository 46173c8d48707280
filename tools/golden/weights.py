#!/usr/bin/env python3
"""Weights in 4 bits by `selvage quantize --weight-only` beside onnxruntime's MatMulNBitsQuantizer at
the same settings: the error of the outputs on the same inputs, and the size of the files, which must
agree within 1 %. Once on a vision transformer, once on a model of large products.

    pip install onnxruntime==1.30.0 onnx onnx_ir
    tools/golden/weights.py PROGRAM

The reference needs PyTorch for HQQ; without it that row is left out, and said so.
"""

import contextlib
import importlib.util
import io
import logging
import pathlib
import subprocess
import sys
import tempfile
import types
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization import matmul_nbits_quantizer as reference

BLOCK, SAMPLES, TESTS = 128, 32, 64
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)


def selvage(*arguments):
    subprocess.run([PROGRAM, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def transformer(folder):
    """Constants folded, as both quantisers want it."""
    selvage("new", "vit-tiny", folder / "new.onnx", "--input", "1x28x28")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "transformer.onnx")
    onnxruntime.InferenceSession(folder / "new.onnx", options)
    random = np.random.default_rng(1)
    return folder / "transformer.onnx", random.standard_normal((SAMPLES + TESTS, 1, 28, 28))


def products(folder):
    """Two layers of 512, 2048 and 512 whose weights have outliers, on inputs that correlate."""
    random = np.random.default_rng(2)
    sizes, value, nodes, weights = [512, 2048, 512, 2048, 512], "x", [], []
    for i, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        weight = random.standard_t(5, (rows, columns)).astype(np.float32) / np.float32(rows) ** 0.5
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"], f"product{i}"))
        value = f"m{i}"
        if i % 2 == 0:
            nodes.append(helper.make_node("Relu", [value], [f"r{i}"], f"relu{i}"))
            value = f"r{i}"
    graph = helper.make_graph(
        nodes, "products", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 512])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", 512])], weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, folder / "products.onnx")
    mixing = random.standard_normal((512, 512)) / 512 ** 0.5
    return folder / "products.onnx", random.standard_normal((SAMPLES + TESTS, 512)) @ mixing


class Reader(CalibrationDataReader):
    def __init__(self, name, samples):
        self.rows = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self.rows, None)


def configuration(rounding, name, samples):
    if rounding == "gptq":
        return reference.GPTQWeightOnlyQuantConfig(Reader(name, samples), block_size=BLOCK)
    if rounding == "hqq":
        return reference.HQQWeightOnlyQuantConfig(block_size=BLOCK)
    return None


def run(path, inputs):
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in inputs])


def sqnr(expected, actual):
    return 20 * np.log10(np.linalg.norm(expected) / np.linalg.norm(expected - actual))


def compare(folder, model, inputs, rounding):
    samples, tests = inputs[:SAMPLES], inputs[SAMPLES:]
    ours, theirs = folder / "ours.onnx", folder / "theirs.onnx"
    data = ["--data", folder / "samples", "--samples", SAMPLES] if rounding == "gptq" else []
    # The reference leaves Gemm alone.
    selvage("quantize", model, ours, "--weight-only", "--bits", 4, "--block", BLOCK, "--rounding",
            rounding, "--types", "MatMul", "--no-measure", *data)
    name = onnxruntime.InferenceSession(model).get_inputs()[0].name
    quantizer = reference.MatMulNBitsQuantizer(
        onnx.load(model), block_size=BLOCK, is_symmetric=False,
        algo_config=configuration(rounding, name, samples))
    with contextlib.redirect_stdout(io.StringIO()):  # Progress bars.
        quantizer.process()
    onnx.save(quantizer.model.model, theirs)
    expected = run(model, tests)
    found = [sqnr(expected, run(path, tests)) for path in (ours, theirs)]
    sizes = [path.stat().st_size for path in (ours, theirs)]
    print(f"{model.stem:<12} {rounding:<8} {found[0]:8.2f} dB {found[1]:8.2f} dB "
          f"{sizes[0]:10,} {sizes[1]:10,}  {sizes[0] / sizes[1]:.4f}x", flush=True)
    return found[0] >= 0.99 * found[1] and sizes[0] <= 1.01 * sizes[1]


def main():
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    roundings = ["nearest", "gptq"]
    if importlib.util.find_spec("torch"):
        roundings.append("hqq")
    else:
        print("hqq: not compared, the reference needs PyTorch")
        # Its GPTQ only asks whether what it is given comes from there.
        sys.modules["torch"] = types.ModuleType("torch")
    print(f"{'':<21} {'SQNR: ours':>11} {'reference':>11} {'bytes: ours':>11} {'reference':>10}")
    good = True
    for make in (transformer, products):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            model, inputs = make(folder)
            inputs = inputs.astype(np.float32)
            (folder / "samples").mkdir()
            for i, sample in enumerate(inputs[:SAMPLES]):
                np.save(folder / "samples" / f"{i:03}.npy", sample[None])
            for rounding in roundings:
                good = compare(folder, model, inputs, rounding) and good
    if not good:
        sys.exit("weights: worse than the reference by more than 1 %")


if __name__ == "__main__":
    main()
