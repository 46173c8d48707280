#!/usr/bin/env python3
"""`selvage optimize` as a user runs it.

  tests/cli/optimize_test.py PROGRAM DEPS
"""

import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree

from cli_test import DEPS, PROGRAM, Case, run

BLAZEFACE = DEPS / "models/blazeface-front"
OCR = DEPS / "models/ppocr-rec"
# Every second one calibrates, in the order of their names: the one with a face does not.
PICTURES = ("skimage/coffee.png", "skimage/astronaut.png", "skimage/rocket.jpg", "opencv/messi5.jpg")


class OptimizeTest(Case):
    def pictures(self):
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        for number, name in enumerate(PICTURES):
            shutil.copy(DEPS / "data" / name, folder / f"{number}-{name.split('/')[1]}")
        return folder

    def test_a_search_and_what_it_leaves(self):
        out, page = self.folder / "small.onnx", self.folder / "why.html"
        before = (BLAZEFACE / "model.onnx").read_bytes()
        report = self.json_of(
            "optimize", BLAZEFACE, out, "--data", self.pictures(), "--only", "float,static",
            "--max-drop", "0.4", "--report", page,
        )  # fmt: skip
        self.assertEqual(report["quality"], "agreement with the original")
        self.assertEqual((report["calibration_samples"], report["evaluation_samples"]), (2, 2))
        original, *others = report["candidates"]
        self.assertEqual((original["name"], original["quality"]), ("original", 1))
        self.assertGreaterEqual(len(others), 5)
        self.assertEqual({one["kind"] for one in others}, {"float", "static"})
        chosen = report["candidates"][report["chosen"]]
        self.assertEqual(chosen["verdict"], "taken")
        self.assertGreaterEqual(chosen["quality"], 0.6)
        self.assertLessEqual(chosen["latency"]["ratio_low"], 1)
        self.assertEqual(out.stat().st_size, report["after"]["file_bytes"])
        self.assertLess(report["overhead"], 1)
        # Beside it lie the card, and no traces of the search.
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir() if path.name != "cache"),
            ["pictures", "small.onnx", "small.yaml", "why.html"],
        )
        self.assertEqual((BLAZEFACE / "model.onnx").read_bytes(), before)
        self.json_of("run", out, self.pictures() / "1-astronaut.png")
        self.check_page(page.read_text(), report)

    def check_page(self, page, report):
        tree = xml.etree.ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<meta[^>]*>", "", page))
        text = "".join(tree.itertext())
        for candidate in report["candidates"][1:]:
            self.assertIn(candidate["name"], text)
            self.assertIn(candidate["command"], text)
        self.assertIn("Error of each layer", text)
        self.assertNotRegex(page.replace("http://www.w3.org/2000/svg", ""), r"https?://|<script|@import")

    def test_the_command_of_a_candidate_makes_it(self):
        out, again = self.folder / "small.onnx", self.folder / "again.onnx"
        report = self.json_of(
            "optimize", BLAZEFACE, out, "--data", self.pictures(), "--only", "static",
            "--max-drop", "0.9",
        )  # fmt: skip
        chosen = report["candidates"][report["chosen"]]
        if report["chosen"] == 0:
            self.skipTest("nothing was faster on this machine")
        words = chosen["command"].split()
        self.assertEqual(words[0], "selvage")
        words[words.index(str(out))] = again
        self.output_of(*words[1:])
        self.assertEqual(again.read_bytes(), out.read_bytes())

    def test_text_for_people(self):
        text = self.output_of(
            "optimize", BLAZEFACE, self.folder / "o.onnx", "--data", self.pictures(), "--only", "float"
        )
        for word in ("float, folded", "> taken", "p50", "memory", "everything else"):
            self.assertIn(word, text)

    def test_labels_go_with_the_card(self):
        folder = self.folder / "deployed"
        folder.mkdir()
        self.output_of(
            "optimize", OCR, folder / "model.onnx", "--data", self.pictures(), "--only", "float",
            "--evaluate", "1", "--samples", "1",
        )  # fmt: skip
        self.assertEqual(
            sorted(path.name for path in folder.iterdir()), ["labels.txt", "model.onnx", "model.yaml"]
        )
        self.json_of("run", folder, self.pictures() / "0-coffee.png")

    def test_an_interrupted_search_goes_on(self):
        out, work = self.folder / "small.onnx", self.folder / "work"
        arguments = [
            "optimize", BLAZEFACE, out, "--data", self.pictures(), "--only", "float,static", "--work", work
        ]  # fmt: skip
        process = subprocess.Popen(
            [PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(600):
            if len(list(work.glob("*.json"))) >= 2:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assertIn("goes on where", error)
        self.assertFalse(out.exists())
        report = self.json_of(*arguments)
        self.assertGreaterEqual(sum(one["resumed"] for one in report["candidates"]), 2)
        self.assertTrue(out.exists())
        self.assertTrue(list(work.glob("*.json")))

    def test_a_full_disk_ends_the_search_and_it_goes_on_later(self):
        out, work = self.folder / "small.onnx", self.folder / "work"
        arguments = [
            "optimize", BLAZEFACE, out, "--data", self.pictures(), "--only", "float", "--work", work,
        ]  # fmt: skip
        code, printed, error = run(
            *arguments,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        )  # fmt: skip
        self.assertEqual((code, printed), (1, ""))
        self.assertIn("File too large", error)
        self.assertFalse(out.exists())
        self.assertEqual([path for path in work.iterdir() if path.suffix == ".onnx"], [])
        report = self.json_of(*arguments)
        self.assertGreater(len(report["candidates"]), 1)
        self.assertTrue(out.exists())

    def test_targets_that_nothing_meets(self):
        out = self.folder / "out.onnx"
        code, text, error = run(
            "optimize", BLAZEFACE, out, "--data", self.pictures(), "--only", "float",
            "--max-size", "0.001",
        )  # fmt: skip
        self.assertEqual(code, 1)
        self.assertIn("nothing was written", text)
        self.assertIn("MB, 0.001 are allowed", text)
        self.assertIn("meets the targets", error)
        self.assertFalse(out.exists())

    def test_failures_leave_no_file(self):
        out, data = self.folder / "out.onnx", self.pictures()
        cases = {
            (BLAZEFACE, BLAZEFACE / "model.onnx", "--data", data): "the model itself",
            (BLAZEFACE, self.folder / "none/out.onnx", "--data", data): "no folder",
            (BLAZEFACE, out, "--data", self.folder / "nothing"): "--data",
            (self.folder / "none.onnx", out, "--data", data): "no model",
            (BLAZEFACE, out, "--data", data, "--report", out): "is read or written as well",
            (BLAZEFACE, out, "--data", data, "--work", data): "is the data's folder",
        }
        for arguments, message in cases.items():
            with self.subTest(arguments):
                self.assertIn(message, self.fails(1, "optimize", *arguments))
                self.assertFalse(out.exists())
        self.assertIn("is missing", self.fails(2, "optimize", BLAZEFACE, out))
        self.assertIn("magic", self.fails(2, "optimize", BLAZEFACE, out, "--data", data, "--only", "magic"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
