#!/usr/bin/env python3
"""Writes tests/golden/infer/*.json: what the original pre- and post-processing of each example model
makes of the sample data in .deps, computed with NumPy, Pillow, OpenCV, pyclipper and ONNX Runtime's
Python package. The C++ tests compare with these numbers.

    pip install numpy pillow opencv-python-headless pyclipper onnxruntime
    tools/golden/infer.py
"""

import json
import wave
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pyclipper
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DEPS = ROOT / ".deps"
OUT = ROOT / "tests" / "golden" / "infer"


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(DEPS / "models" / model / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def rounded(value, digits=4):
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(v, digits) for v in value]
    return round(float(value), digits)


def write(name, content):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


# BlazeFace: MediaPipe's tensors_to_detections and weighted non_max_suppression.


def overlap(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def blazeface(model, size, picture):
    image = Image.open(DEPS / "data" / picture).convert("RGB")
    scale = min(size / image.width, size / image.height)
    width, height = image.width * scale, image.height * scale
    left, top = round((size - width) / 2), round((size - height) / 2)
    canvas = np.zeros((size, size, 3), np.float32)
    small = image.resize((round(width), round(height)), Image.BILINEAR)
    canvas[top : top + small.height, left : left + small.width] = np.asarray(small)
    run = session(model)
    outputs = run.run(None, {"input:0": canvas[None] / 127.5 - 1})
    scores = 1 / (1 + np.exp(-np.concatenate([outputs[0][0], outputs[1][0]])[:, 0]))
    raw = np.concatenate([outputs[2][0], outputs[3][0]]) / size
    anchors = [
        ((x + 0.5) / n, (y + 0.5) / n)
        for n, each in ((16, 2), (8, 6))
        for y in range(n)
        for x in range(n)
        for _ in range(each)
    ]
    found = []
    for score, row, (ax, ay) in zip(scores, raw, anchors):
        if score < 0.5:
            continue
        cx, cy, w, h = row[0] + ax, row[1] + ay, row[2], row[3]
        points = row[4:].reshape(6, 2) + (ax, ay)
        found.append((score, np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]), points))
    found.sort(key=lambda f: -f[0])
    faces = []
    while found:
        group = [f for f in found if overlap(found[0][1], f[1]) > 0.3]
        rest = [f for f in found if not overlap(found[0][1], f[1]) > 0.3]
        weights = np.array([f[0] for f in group])
        box = np.average([f[1] for f in group], 0, weights)
        points = np.average([f[2] for f in group], 0, weights)
        to_picture = lambda v: (np.reshape(v, (-1, 2)) * size - (left, top)) / scale
        faces.append(
            {
                "score": rounded(found[0][0]),
                "box": rounded(to_picture(box).ravel(), 2),
                "keypoints": rounded(to_picture(points), 2),
            }
        )
        found = rest
    return {"model": model, "picture": picture, "faces": faces}


# PP-OCR: PaddleOCR's DetResizeForTest, DBPostProcess, get_rotate_crop_image, resize_norm_img and
# CTCLabelDecode.


def mini_box(points):
    rectangle = cv2.minAreaRect(points)
    corners = sorted(cv2.boxPoints(rectangle).tolist(), key=lambda p: p[0])
    a, d = (0, 1) if corners[1][1] > corners[0][1] else (1, 0)
    b, c = (2, 3) if corners[3][1] > corners[2][1] else (3, 2)
    return [corners[a], corners[b], corners[c], corners[d]], min(rectangle[1])


def box_score(probability, box):
    box = np.array(box).reshape(-1, 2)
    height, width = probability.shape
    x0 = np.clip(np.floor(box[:, 0].min()).astype(int), 0, width - 1)
    x1 = np.clip(np.ceil(box[:, 0].max()).astype(int), 0, width - 1)
    y0 = np.clip(np.floor(box[:, 1].min()).astype(int), 0, height - 1)
    y1 = np.clip(np.ceil(box[:, 1].max()).astype(int), 0, height - 1)
    mask = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.uint8)
    box = box - (x0, y0)
    cv2.fillPoly(mask, box.reshape(1, -1, 2).astype(np.int32), 1)
    return cv2.mean(probability[y0 : y1 + 1, x0 : x1 + 1], mask)[0]


def unclip(box, ratio):
    points = np.array(box)
    x, y = points[:, 0], points[:, 1]
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    length = np.linalg.norm(points - np.roll(points, 1, 0), axis=1).sum()
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(box, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return np.array(offset.Execute(area * ratio / length)[0])


def text_boxes(probability, width, height):
    bitmap = (probability > 0.3).astype(np.uint8)
    contours = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]
    boxes = []
    for contour in contours[:1000]:
        box, side = mini_box(contour)
        if side < 3:
            continue
        score = box_score(probability, box)
        if score < 0.6:
            continue
        grown, side = mini_box(unclip(box, 1.5).reshape(-1, 1, 2).astype(np.int32))
        if side < 5:
            continue
        grown = np.array(grown) / probability.shape[::-1] * (width, height)
        boxes.append({"score": score, "corners": np.clip(grown, 0, (width, height))})
    return sorted(boxes, key=lambda b: (b["corners"][0][1], b["corners"][0][0]))


def text_map(picture):
    image = cv2.imread(str(DEPS / "data" / picture))
    height, width = image.shape[:2]
    ratio = min(1, 960 / max(width, height))
    side = lambda v: max(int(round(int(v * ratio) / 32) * 32), 32)
    resized = cv2.resize(image, (side(width), side(height)))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    tensor = ((resized / 255.0 - mean) / deviation).astype(np.float32).transpose(2, 0, 1)[None]
    return image, session("ppocr-det").run(None, {"x": tensor})[0][0, 0]


def read_line(image, corners, run, labels):
    corners = np.array(corners, np.float32)
    width = int(max(np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[2] - corners[3])))
    height = int(max(np.linalg.norm(corners[0] - corners[3]), np.linalg.norm(corners[1] - corners[2])))
    target = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    crop = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(corners, target),
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_CUBIC,
    )
    if height / width >= 1.5:
        crop = np.rot90(crop)
    ratio = crop.shape[1] / crop.shape[0]
    tensor_width = int(48 * max(320 / 48, ratio))
    content = min(tensor_width, int(np.ceil(48 * ratio)))
    tensor = np.zeros((1, 3, 48, tensor_width), np.float32)
    resized = cv2.resize(np.ascontiguousarray(crop), (content, 48)).astype(np.float32)
    tensor[0, :, :, :content] = (resized.transpose(2, 0, 1) / 255 - 0.5) / 0.5
    steps = run.run(None, {"x": tensor})[0][0]
    best = steps.argmax(1)
    kept = [t for t in range(len(best)) if best[t] != 0 and (t == 0 or best[t] != best[t - 1])]
    text = "".join(labels[best[t] - 1] for t in kept)
    return text, steps.max(1)[kept].mean() if kept else 0


def ocr(picture):
    image, probability = text_map(picture)
    run = session("ppocr-rec")
    labels = (DEPS / "models/ppocr-rec/labels.txt").read_text("utf-8").split("\n")
    labels = [label.rstrip("\r") for label in labels] + [" "]
    regions = []
    for box in text_boxes(probability, image.shape[1], image.shape[0]):
        text, confidence = read_line(image, box["corners"], run, labels)
        regions.append(
            {
                "corners": rounded(box["corners"], 1),
                "score": rounded(box["score"]),
                "text": text,
                "confidence": rounded(confidence),
            }
        )
    return {"picture": picture, "regions": regions}


def synthetic_text_map():
    """A map of blurred bars at several angles: post-processing alone, without a network."""
    rng = np.random.default_rng(1)
    bars = []
    probability = np.zeros((160, 240), np.float32)
    for x, y, width, height, angle in (
        (60, 30, 90, 14, 0),
        (170, 50, 80, 16, 25),
        (60, 100, 70, 12, -40),
        (190, 120, 12, 60, 3),
        (130, 140, 4, 3, 0),
    ):
        bars.append([x, y, width, height, angle])
        bar = np.zeros_like(probability)
        corners = cv2.boxPoints(((x, y), (width, height), angle))
        cv2.fillPoly(bar, [corners.astype(np.int32)], 0.9)
        probability = np.maximum(probability, bar)
    probability = cv2.GaussianBlur(probability, (5, 5), 0)
    probability += rng.uniform(0, 0.05, probability.shape).astype(np.float32)
    packed = np.clip(np.round(probability * 255), 0, 255).astype(np.uint8)
    Image.fromarray(packed).save(OUT / "text-map.png")
    boxes = text_boxes(packed.astype(np.float32) / 255, packed.shape[1], packed.shape[0])
    return [{"corners": rounded(b["corners"], 2), "score": rounded(b["score"])} for b in boxes]


# Silero VAD: OnnxWrapper and get_speech_timestamps of its utils_vad.py.


def samples_of(path):
    if path.suffix == ".raw":
        return np.frombuffer(path.read_bytes(), "<i2").astype(np.float32) / 32768
    with wave.open(str(path)) as file:
        assert file.getframerate() == 16000 and file.getsampwidth() == 2
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def speech_segments(scores, total, rate=16000, window=512, threshold=0.5):
    pad, shortest, silence = rate * 0.03, rate * 0.25, rate * 0.1
    found, current, quiet = [], None, 0
    for i, score in enumerate(scores):
        if score >= threshold and quiet:
            quiet = 0
        if score >= threshold and current is None:
            current = window * i
            continue
        if score < threshold - 0.15 and current is not None:
            if not quiet:
                quiet = window * i
            if window * i - quiet < silence:
                continue
            if quiet - current > shortest:
                found.append([current, quiet])
            current, quiet = None, 0
    if current is not None and total - current > shortest:
        found.append([current, total])
    for i, segment in enumerate(found):
        if i == 0:
            segment[0] = int(max(0, segment[0] - pad))
        if i != len(found) - 1:
            gap = found[i + 1][0] - segment[1]
            if gap < 2 * pad:
                segment[1] += int(gap // 2)
                found[i + 1][0] = int(max(0, found[i + 1][0] - gap // 2))
            else:
                segment[1] = int(min(total, segment[1] + pad))
                found[i + 1][0] = int(max(0, found[i + 1][0] - pad))
        else:
            segment[1] = int(min(total, segment[1] + pad))
    return found


def speech(path):
    samples = samples_of(DEPS / "data" / path)
    run = session("silero-vad")
    state, context, scores = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for begin in range(0, len(samples), 512):
        window = np.zeros(512, np.float32)
        part = samples[begin : begin + 512]
        window[: len(part)] = part
        row = np.concatenate([context, window])
        score, state = run.run(
            None, {"input": row[None], "state": state, "sr": np.array(16000, np.int64)}
        )
        scores.append(float(score[0, 0]))
        context = row[-64:]
    return {
        "sound": path,
        "frames": len(scores),
        "active_share": rounded(np.mean(np.array(scores) > 0.5)),
        "every_tenth_score": rounded(scores[::10], 3),
        "segments": speech_segments(scores, len(samples)),
    }


# M-LSD: pred_lines of its demo, at the tensor's own size.


def lines(picture):
    image = Image.open(DEPS / "data" / picture).convert("RGB")
    small = np.asarray(image.resize((320, 320), Image.BILINEAR), np.float32)
    tensor = np.concatenate([small, np.ones((320, 320, 1), np.float32)], 2)[None]
    offsets, scores = session("mlsd-tiny").run(None, {"input_image_with_alpha:0": tensor})
    offsets, scores = offsets[0], scores[0, :, :, 0]
    found = []
    for y, x in zip(*np.nonzero(scores > 0.1)):
        if scores[y, x] < scores[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max():
            continue
        ends = (np.array([x, y, x, y]) + offsets[y, x]) * 2
        if np.hypot(ends[0] - ends[2], ends[1] - ends[3]) < 20:
            continue
        scale = np.array([image.width, image.height] * 2) / 320
        found.append({"score": rounded(scores[y, x]), "ends": rounded(ends * scale, 2)})
    found.sort(key=lambda line: -line["score"])
    return {"picture": picture, "count": len(found), "best": found[:20]}


def main():
    write(
        "blazeface.json",
        [
            blazeface("blazeface-front", 128, "skimage/astronaut.png"),
            blazeface("blazeface-back", 256, "opencv/messi5.jpg"),
            blazeface("blazeface-front", 128, "skimage/coffee.png"),
        ],
    )
    write("text-map.json", synthetic_text_map())
    write("ocr.json", [ocr(f"opencv/{name}") for name in ("scenetext01.jpg", "imageTextN.png")])
    librivox = sorted((DEPS / "data/speech/librivox").glob("*-0870.wav"))[0]
    write(
        "speech.json",
        [speech(str(librivox.relative_to(DEPS / "data"))), speech("speech/goforward.raw")],
    )
    write("lines.json", [lines("opencv/building.jpg"), lines("opencv/board.jpg")])


if __name__ == "__main__":
    main()
