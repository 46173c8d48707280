#!/usr/bin/env python3
"""Writes tests/golden/quantization/: a small network, and what onnxruntime.quantization makes of it.
The C++ tests must come to the same numbers, bit for bit.

    pip install onnxruntime==1.30.0 onnx
    tools/golden/quantization.py            writes them
    tools/golden/quantization.py --check    fails where the reference says otherwise by now
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits
from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat,
                                      QuantType, quantize_static)
from onnxruntime.quantization.calibrate import create_calibrator

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "quantization"
SAMPLES, SHAPE = 8, (1, 3, 16, 16)


def sample(index):
    """The same numbers as sample() in quantize_golden_test.cc."""
    count = int(np.prod(SHAPE))
    serial = (np.arange(count, dtype=np.uint64) + index * count) * 2654435761 % 2**32
    value = (serial >> 8).astype(np.float64) / 2**24 * 2 - 1
    return (value * value * value * (1 + index * 0.25)).astype(np.float32).reshape(SHAPE)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.samples = iter(range(SAMPLES))

    def get_next(self):
        index = next(self.samples, None)
        return None if index is None else {"x": sample(index)}


def make_network():
    random = np.random.default_rng(4)

    def weight(name, *shape, scale=0.3):
        values = (random.standard_normal(shape) * scale).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], "depthwise", pads=[1, 1, 1, 1],
                         group=8),
        helper.make_node("Clip", ["c2", "low", "high"], ["k2"], "clip2"),
        helper.make_node("Conv", ["k2", "w3"], ["c3"], "pointwise"),
        helper.make_node("Add", ["c3", "p1"], ["a3"], "residual"),
        helper.make_node("Sigmoid", ["a3"], ["s3"], "sigmoid3"),
        helper.make_node("Mul", ["a3", "s3"], ["m3"], "swish3"),
        helper.make_node("GlobalAveragePool", ["m3"], ["g3"], "mean3"),
        helper.make_node("Flatten", ["g3"], ["f3"], "flatten3"),
        helper.make_node("Gemm", ["f3", "w4", "b4"], ["y4"], "dense4", transB=1),
        helper.make_node("MatMul", ["y4", "w5"], ["y5"], "matmul5"),
        helper.make_node("Softmax", ["y5"], ["y"], "softmax5"),
    ]
    weights = [
        weight("w1", 8, 3, 3, 3), weight("b1", 8),
        weight("w2", 8, 1, 3, 3, scale=0.8), weight("b2", 8),
        weight("w3", 8, 8, 1, 1),
        weight("w4", 10, 8), weight("b4", 10),
        weight("w5", 10, 6),
        numpy_helper.from_array(np.float32(0), "low"), numpy_helper.from_array(np.float32(6), "high"),
    ]
    graph = helper.make_graph(
        nodes, "golden",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])], weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def bits(value):
    return int(np.asarray(value, np.float32).reshape(-1)[0].view(np.uint32))


def ranges(model, method, **options):
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(model, None, f"{folder}/augmented.onnx", method,
                                       extra_options=options)
        calibrator.collect_data(Reader())
        found = calibrator.compute_data()
    return {name: [bits(data.lowest), bits(data.highest)] for name, data in sorted(found.items())}


def stored_bytes(tensor):
    """As raw data: 4-bit numbers two a byte, the first in the low half."""
    if tensor.raw_data:
        return tensor.raw_data
    values = numpy_helper.to_array(tensor)
    if tensor.data_type not in (TensorProto.INT4, TensorProto.UINT4):
        return values.tobytes()
    halves = values.reshape(-1).astype(np.int8).view(np.uint8) & 15
    halves = np.append(halves, np.zeros(halves.size % 2, np.uint8))
    return (halves[0::2] | halves[1::2] << 4).tobytes()


def constants(model, **options):
    """The stored tensors of the quantised network: type, dimensions and content."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/quantised.onnx"
        quantize_static(model, path, Reader(), **options)
        stored = onnx.load(path).graph.initializer
    content = {}
    for tensor in sorted(stored, key=lambda one: one.name):
        content[tensor.name] = [tensor.data_type, list(tensor.dims), stored_bytes(tensor).hex()]
    return content


def blockwise(bits, symmetric, rows=100, columns=6, block=32):
    """MatMulNBits' form of a matrix: the runtime's own kernels behind MatMulNBitsQuantizer."""
    serial = np.arange(rows * columns, dtype=np.uint64) * 2654435761 % 2**32
    value = (serial >> 8).astype(np.float64) / 2**24 * 2 - 1
    matrix = (value * value * value).astype(np.float32).reshape(rows, columns)
    blocks = -(-rows // block)
    packed = np.zeros((columns, blocks, block * bits // 8), np.uint8)
    zero_points = np.zeros((columns, (blocks * bits + 7) // 8), np.uint8)
    scales = np.zeros((columns, blocks), np.float32)
    padded = np.pad(matrix, ((0, blocks * block - rows), (0, 0)))
    kernel = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}[bits]
    kernel(packed, padded, scales, zero_points, block, columns, rows, symmetric)
    return {"bytes": packed.tobytes().hex(), "scales": scales.tobytes().hex(),
            "zero_points": "" if symmetric else zero_points.tobytes().hex()}


def main():
    is_check = sys.argv[1:] == ["--check"]
    OUT.mkdir(parents=True, exist_ok=True)
    network = OUT / "network.onnx"
    if not is_check:
        onnx.save(make_network(), network)
    model = str(network)
    method = CalibrationMethod
    calibration = {
        "minmax": ranges(model, method.MinMax),
        "minmax symmetric": ranges(model, method.MinMax, symmetric=True),
        "entropy 128": ranges(model, method.Entropy),
        "entropy 2048": ranges(model, method.Entropy, num_bins=2048),
        "entropy 1024 into 64": ranges(model, method.Entropy, num_bins=1024, num_quantized_bins=64),
        "percentile 99.999": ranges(model, method.Percentile),
        "percentile 99": ranges(model, method.Percentile, percentile=99.0),
        "percentile 98 asymmetric": ranges(model, method.Percentile, percentile=98.0,
                                           symmetric=False),
    }
    kinds = QuantType
    base = {"quant_format": QuantFormat.QDQ, "activation_type": kinds.QInt8,
            "weight_type": kinds.QInt8}
    models = {
        "int8": constants(model, **base),
        "per channel": constants(model, **base | {"activation_type": kinds.QUInt8,
                                                  "per_channel": True}),
        "uint8": constants(model, **base | {"activation_type": kinds.QUInt8,
                                            "weight_type": kinds.QUInt8}),
        "reduced": constants(model, **base | {"reduce_range": True}),
        "16 bits": constants(model, **base | {"activation_type": kinds.QUInt16}),
        "int4": constants(model, **base | {"weight_type": kinds.QInt4, "per_channel": True}),
        "symmetric": constants(model, **base | {"extra_options": {"ActivationSymmetric": True}}),
    }
    matrices = {f"{bits} bits{' symmetric' * symmetric}": blockwise(bits, symmetric)
                for bits in (4, 8) for symmetric in (False, True)}
    text = json.dumps({"calibration": calibration, "models": models, "blockwise": matrices},
                      indent=0)
    expected = OUT / "expected.json"
    if is_check and expected.read_text() != text + "\n":
        sys.exit(f"{expected} is not what onnxruntime.quantization says")
    if not is_check:
        expected.write_text(text + "\n")
    print(f"{OUT}: {len(calibration)} calibrations, {len(models)} models")


if __name__ == "__main__":
    main()
