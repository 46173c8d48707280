"""Models, pictures, sounds and arrays for the tests of the commands, small enough to be made here."""

import struct
import wave

FLOAT, INT64 = 1, 7


def varint(value):
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def value_info(name, shape, kind=FLOAT):
    dimensions = b"".join(
        message(1, message(2, size) if isinstance(size, str) else number(1, size)) for size in shape
    )
    tensor = number(1, kind) + message(2, dimensions)
    return message(1, name) + message(2, message(1, tensor))


def ints_attribute(name, values):
    return message(1, name) + b"".join(number(8, value) for value in values) + number(20, 7)


def node(operator, inputs, outputs, attributes=()):
    content = b"".join(message(1, name) for name in inputs)
    content += b"".join(message(2, name) for name in outputs)
    content += message(3, f"{operator.lower()}_1") + message(4, operator)
    return content + b"".join(message(5, attribute) for attribute in attributes)


def floats(name, shape, values):
    content = b"".join(number(1, size) for size in shape) + number(2, FLOAT)
    return content + message(8, name) + message(9, struct.pack(f"<{len(values)}f", *values))


def external_floats(name, shape, location):
    """A tensor whose data are all of a file beside the model."""
    content = b"".join(number(1, size) for size in shape) + number(2, FLOAT) + message(8, name)
    return content + message(13, message(1, "location") + message(2, location)) + number(14, 1)


def model(nodes, inputs, outputs, initialisers=()):
    """An ONNX file: ModelProto with one graph (onnx.proto's field numbers), opset 13."""
    graph = b"".join(message(1, one) for one in nodes) + message(2, "main")
    graph += b"".join(message(5, one) for one in initialisers)
    graph += b"".join(message(11, one) for one in inputs)
    graph += b"".join(message(12, one) for one in outputs)
    return number(1, 8) + message(2, "fixtures") + message(7, graph) + message(8, number(2, 13))


def matmul_model():
    """y [batch,2] = x [batch,4] * w, w's columns being ones and 0, 1, 2, 3."""
    weights = floats("w", [4, 2], [1, 0, 1, 1, 1, 2, 1, 3])
    return model(
        [node("MatMul", ["x", "w"], ["y"])],
        [value_info("x", ["batch", 4])],
        [value_info("y", ["batch", 2])],
        [weights],
    )


def mean_colour_model():
    """y [1,3]: the mean of each colour of x [1,3,4,4]."""
    return model(
        [
            node("GlobalAveragePool", ["x"], ["mean"]),
            node("Flatten", ["mean"], ["y"]),
        ],
        [value_info("x", [1, 3, 4, 4])],
        [value_info("y", [1, 3])],
    )


COLOUR_CARD = """\
name: colours
description: The colour of which a picture has most
licence: Apache-2.0
input: {kind: image, scale: 1/255}
output: {kind: classification, labels: [red, green, blue], top: 3}
"""


def loudness_model():
    """y [1,1]: the largest of the 160 samples x."""
    return model(
        [node("ReduceMax", ["x"], ["y"], [ints_attribute("axes", [1])])],
        [value_info("x", [1, 160])],
        [value_info("y", [1, 1])],
    )


LOUDNESS_CARD = """\
name: loudness
input: {kind: audio, rate: 16000, window: 160}
output: {kind: activity, threshold: 0.5, min_active_s: 0.1, pad_s: 0}
"""

def gather_model():
    """y [1,1]: the element of 10, 20, 30 that x [1,1] counts from 0."""
    return model(
        [node("Gather", ["w", "x"], ["y"])],
        [value_info("x", [1, 1], INT64)],
        [value_info("y", [1, 1])],
        [floats("w", [3], [10, 20, 30])],
    )


def sum_model():
    """y [1] = hn [1] = x [1] + h [1]."""
    return model(
        [node("Add", ["x", "h"], ["hn"]), node("Identity", ["hn"], ["y"])],
        [value_info("x", [1]), value_info("h", [1])],
        [value_info("y", [1]), value_info("hn", [1])],
    )


TABLE_CARD = """\
name: sums
input: {kind: table, columns: [{name: a}, {name: b}, {name: c}, {name: d}]}
output: {kind: regression, names: [sum, weighted]}
session: {dimensions: {batch: 1}}
"""


def ppm(width, height, colour):
    return f"P6 {width} {height} 255\n".encode() + bytes(colour) * (width * height)


def write_wav(path, samples, rate=16000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def npy(values, shape, kind="<f4"):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    header = header.ljust(117) + "\n"
    code = {"<f4": "f", "<f8": "d", "<i8": "q"}[kind]
    data = struct.pack(f"<{len(values)}{code}", *values)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data
