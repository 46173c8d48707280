"""BlazeFace on a picture in memory with onnxruntime, numpy and Pillow, as tutorials write it.

  blazeface.py MODEL PICTURE [--calls N]

Prints one JSON object like bench/predict_bench.cc does. Letterbox to 128x128, scale to [-1, 1], run,
decode anchors, sigmoid, non-maximum suppression; vectorised where numpy users would.
"""
import json
import sys
import time

import numpy as np
import onnxruntime
from PIL import Image

SIZE = 128


def make_anchors():
    anchors = []
    for cells, per_cell in ((16, 2), (8, 6)):
        for y in range(cells):
            for x in range(cells):
                anchors += [((x + 0.5) / cells, (y + 0.5) / cells)] * per_cell
    return np.array(anchors, np.float32)


def preprocess(picture):
    width, height = picture.size
    scale = SIZE / max(width, height)
    resized = picture.resize((round(width * scale), round(height * scale)), Image.BILINEAR)
    canvas = Image.new("RGB", (SIZE, SIZE))
    offset = ((SIZE - resized.width) // 2, (SIZE - resized.height) // 2)
    canvas.paste(resized, offset)
    tensor = np.asarray(canvas, np.float32)[None] / 127.5 - 1.0
    return tensor, scale, offset


def iou(box, boxes):
    left_top = np.maximum(box[:2], boxes[:, :2])
    right_bottom = np.minimum(box[2:], boxes[:, 2:])
    inter = np.prod(np.clip(right_bottom - left_top, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return inter / (area + areas - inter)


def postprocess(outputs, anchors, scale, offset):
    logits = np.concatenate([outputs[0].reshape(-1), outputs[1].reshape(-1)])
    scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    raw = np.concatenate([outputs[2].reshape(-1, 16), outputs[3].reshape(-1, 16)])
    keep = scores > 0.5
    scores, raw, centres = scores[keep], raw[keep], anchors[keep]
    middle = raw[:, :2] / SIZE + centres
    size = raw[:, 2:4] / SIZE
    boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1) * SIZE
    boxes = (boxes - np.array([*offset, *offset])) / scale
    order = np.argsort(-scores)
    found = []
    while len(order):
        best = order[0]
        overlap = iou(boxes[best], boxes[order]) > 0.3
        cluster = order[overlap]
        weights = scores[cluster]
        found.append((float(scores[best]), np.average(boxes[cluster], axis=0, weights=weights)))
        order = order[~overlap]
    return found


def main():
    model, path = sys.argv[1:3]
    calls = int(sys.argv[4]) if len(sys.argv) > 4 else 500
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    anchors = make_anchors()
    picture = Image.open(path).convert("RGB")
    times = []
    for i in range(calls + calls // 10):
        start = time.perf_counter()
        tensor, scale, offset = preprocess(picture)
        found = postprocess(session.run(None, {name: tensor}), anchors, scale, offset)
        if i >= calls // 10:
            times.append((time.perf_counter() - start) * 1e6)
    p50, p99 = np.percentile(times, [50, 99])
    print(json.dumps({"p50_us": round(p50, 1), "p99_us": round(p99, 1), "boxes": len(found),
                      "calls": calls}))


if __name__ == "__main__":
    main()
