#!/usr/bin/env python3
"""Data, training and evaluation from outside: what survives kill -9, Ctrl-C and a full disk.

  tests/cli/train_test.py PROGRAM
"""

import hashlib
import json
import pathlib
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import fixtures

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
KILLS = 8


def run(folder, *arguments, **options):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=folder, **options,
    )
    return done.returncode, done.stdout, done.stderr


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_idx(folder, name, count):
    """Pictures of 12 x 12 with a bright left, right, upper or lower half, and a little noise."""
    source = random.Random(name)
    labels = [source.randrange(4) for _ in range(count)]
    pixels = bytearray()
    for label in labels:
        for y in range(12):
            for x in range(12):
                bright = [x < 6, x >= 6, y < 6, y >= 6][label]
                pixels.append(source.randrange(60) + (150 if bright else 0))
    head = bytes([0, 0, 8, 3]) + struct.pack(">III", count, 12, 12)
    (folder / f"{name}-images-idx3-ubyte").write_bytes(head + pixels)
    head = bytes([0, 0, 8, 1]) + struct.pack(">I", count)
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(head + bytes(labels))


class Training(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        write_idx(self.folder, "train", 1200)
        write_idx(self.folder, "t10k", 200)
        code, text, error = run(
            self.folder, "new", "lenet5", "start.onnx", "--input", "1x12x12", "--classes", 4)
        self.assertEqual(code, 0, error)

    def tearDown(self):
        self.scratch.cleanup()

    def train(self, out, *more, **options):
        return run(self.folder, *self.arguments(out, *more), **options)

    def arguments(self, out, *more):
        return ["train", "start.onnx", out, "--data", ".", "--epochs", 3, "--threads", 1,
                "--augment", "shift=1,noise=0.02", *more]

    def test_learns_and_says_so(self):
        code, text, error = self.train("out.onnx", "--curve", "curve")
        self.assertEqual(code, 0, error)
        self.assertIn("out.onnx is epoch", text)
        self.assertEqual(text.count("validation loss"), 3)
        rows = (self.folder / "curve.csv").read_text().splitlines()
        self.assertEqual(len(rows), 4)
        xml.etree.ElementTree.parse(self.folder / "curve.svg")
        self.assertFalse((self.folder / "out.onnx.checkpoint").exists())
        code, text, error = run(
            self.folder, "evaluate", "out.onnx", "--data", ".", "--json")
        self.assertEqual(code, 0, error)
        found = json.loads(text)["evaluation"]
        self.assertEqual(found["samples"], 200)
        self.assertGreater(found["accuracy"], 0.95)
        code, text, error = run(
            self.folder, "evaluate", "out.onnx", "--data", ".", "--against", "start.onnx")
        self.assertIn("agreement with start.onnx", text)

    def test_killed_at_any_moment_it_ends_with_the_same_bytes(self):
        self.assertEqual(self.train("undisturbed.onnx")[0], 0)
        source = random.Random(11)
        for kill in range(KILLS):
            process = subprocess.Popen(
                [PROGRAM, *map(str, self.arguments("out.onnx", "--checkpoint-seconds", "0"))],
                cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(source.uniform(0.05, 0.8))
            process.kill()
            process.wait()
        code, text, error = self.train("out.onnx", "--checkpoint-seconds", "0")
        self.assertEqual(code, 0, error)
        self.assertEqual(digest(self.folder / "out.onnx"), digest(self.folder / "undisturbed.onnx"))

    def test_interrupted_it_says_how_to_go_on(self):
        process = subprocess.Popen(
            [PROGRAM, *map(str, self.arguments("out.onnx"))],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()  # An epoch is done.
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("run the same command again to go on", error)
        self.assertTrue((self.folder / "out.onnx.checkpoint").exists())

    def test_bad_data_and_settings(self):
        def start(*more):
            return run(self.folder, "train", "start.onnx", "out.onnx", *more)

        self.assertIn("no data at", start("--data", "none")[2])
        self.assertIn("augmentation 'spin'", start("--data", ".", "--augment", "spin")[2])
        code, _, error = run(self.folder, "new", "mlp", "three.onnx", "--input", "12x12",
                             "--classes", 3)
        self.assertEqual(code, 0, error)
        code, _, error = run(self.folder, "train", "three.onnx", "out.onnx", "--data", ".")
        self.assertEqual(code, 1)
        self.assertIn("knows classes 0 to 2", error)
        code, _, error = run(self.folder, "train", "start.onnx", "start.onnx", "--data", ".")
        self.assertEqual(code, 1)
        code, _, error = self.train("out.onnx", "--lr", 1000, "--optimizer", "sgd")
        self.assertEqual(code, 1)
        self.assertIn("stopped being a number", error)
        self.assertIn("made by", error)

    def test_a_disk_that_fills_up_leaves_the_checkpoint(self):
        limit = 16 * 1024  # Less than the model, as `ulimit -f` has it.

        def cap():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        code, _, error = self.train("out.onnx", preexec_fn=cap)
        self.assertEqual(code, 1)
        self.assertIn("the checkpoint could not be written", error)
        self.assertFalse((self.folder / "out.onnx").exists())

    def test_what_the_run_reads_is_never_written_over(self):
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
            before = digest(self.folder / name)
            code, _, error = self.train(name)
            self.assertEqual(code, 1, error)
            self.assertIn(f"'{name}' is one of the files of --data", error)
            self.assertEqual(digest(self.folder / name), before)
        self.assertEqual(self.train("dense.onnx")[0], 0)
        for command in (["prune"], ["prune", "--finetune"], ["quantize"], ["optimize"]):
            with self.subTest(command):
                code, _, error = run(self.folder, command[0], "dense.onnx", name, "--data", ".",
                                     *command[1:])
                self.assertEqual(code, 1, error)
                self.assertIn(f"'{name}' is one of the files of --data", error)
                self.assertEqual(digest(self.folder / name), before)

    def test_places_to_write_to_are_checked_before_the_run(self):
        code, text, error = self.train("/dev/null")
        self.assertEqual((code, text), (1, ""), error)
        self.assertIn("'/dev/null' is a folder, a device or a pipe", error)
        self.assertFalse(pathlib.Path("/dev/null.checkpoint").exists())
        # Not even root may make files there.
        code, text, error = self.train("/proc/out.onnx")
        self.assertEqual((code, text), (1, ""), error)
        self.assertIn("create '/proc/out.onnx", error)
        code, text, error = self.train("out.onnx", "--curve", "none/curve")
        self.assertEqual((code, text), (1, ""), error)
        self.assertIn("--curve: no folder 'none'", error)
        (self.folder / "out.onnx.checkpoint").mkdir()
        code, text, error = self.train("out.onnx")
        self.assertEqual((code, text), (1, ""), error)
        self.assertIn("where the checkpoint goes, is a folder", error)

    def test_a_curve_may_be_named_by_either_of_its_files(self):
        for name in ("curve.svg", "curve.csv", "curve"):
            code, _, error = self.train("out.onnx", "--curve", name)
            self.assertEqual(code, 0, error)
            for file in ("curve.svg", "curve.csv"):
                (self.folder / file).unlink()
        self.assertEqual(list(self.folder.glob("*.svg.*")), [])

    def test_settings_that_would_do_nothing_or_something_else(self):
        def refused(*more):
            code, text, error = self.train("out.onnx", *more)
            self.assertIn(code, (1, 2), text)
            return error

        self.assertIn("not a whole number from 0", refused("--seed", "-1"))
        self.assertIn("not a whole number from 1", refused("--epochs", "1.5"))
        self.assertIn("--momentum is for", refused("--momentum", "0.5", "--optimizer", "adam"))
        self.assertIn("would never be reached", refused("--warmup", "4"))
        for option in (("--patience", "2"), ("--schedule", "plateau")):
            self.assertIn("needs data that judge", refused(*option, "--validation-split", "0"))
        self.assertIn("no parameter's name fits 'nope*'", refused("--freeze", "nope*"))
        self.assertIn("is not a size", refused("--memory", "-5"))
        self.assertIn("an epoch has only 16 batches", refused("--accumulate", "17"))
        (self.folder / "out.onnx.checkpoint").write_bytes(b"junk")
        self.assertIn("cut short; remove it to start anew", refused())
        (self.folder / "out.onnx.checkpoint").unlink()
        self.assertIn("excludes", refused("--validation", ".", "--validation-split", "0.2"))
        code, _, error = run(self.folder, "new", "mlp", "other.onnx", "--input", 4, "--seed", "-1")
        self.assertEqual(code, 2, error)
        code, _, error = run(self.folder, "new", "autoencoder", "around.onnx", "--input", 3,
                             "--classes", 4)
        self.assertEqual(code, 1)
        self.assertIn("--classes: autoencoder", error)
        code, _, error = run(self.folder, "new", "autoencoder", "around.onnx", "--input", 3)
        self.assertEqual(code, 0, error)
        (self.folder / "rows.csv").write_text("a,b,c\n" + "0.1,0.2,0.3\n" * 20)
        code, _, error = run(self.folder, "train", "around.onnx", "out.onnx", "--data", "rows.csv",
                             "--epochs", 1, "--label-smoothing", 0.1)
        self.assertEqual(code, 1, error)
        self.assertIn("label smoothing is for cross-entropy", error)

    def test_what_does_not_fit_into_memory_is_refused_with_what_would(self):
        code, _, error = self.train("out.onnx", "--memory", "2GB")
        self.assertEqual(code, 0, error)
        code, _, error = self.train("none.onnx", "--memory", "20MB")
        self.assertEqual(code, 1)
        self.assertIn("--memory", error)
        self.assertIn("before the first step", error)
        code, _, error = run(self.folder, "new", "resnet20", "deep.onnx", "--input", "1x12x12",
                             "--classes", 4)
        self.assertEqual(code, 0, error)
        code, _, error = run(self.folder, "train", "deep.onnx", "none.onnx", "--data", ".",
                             "--batch", 1024, "--memory", "200MB")
        self.assertEqual(code, 1)
        self.assertRegex(error, "a step of 1024 samples takes about .* a batch of [0-9]+ takes")

    def test_data_that_cannot_be_learnt_from_are_named(self):
        def refused(*more):
            code, _, error = run(self.folder, "train", "start.onnx", "out.onnx", *more)
            self.assertEqual(code, 1, error)
            self.assertFalse((self.folder / "out.onnx").exists())
            return error

        for name in ("one", "empty", "short"):
            (self.folder / name).mkdir()
        self.assertIn("holds no samples", refused("--data", "empty"))
        write_idx(self.folder / "one", "train", 20)
        labels = self.folder / "one" / "train-labels-idx1-ubyte"
        labels.write_bytes(labels.read_bytes()[:8] + bytes(20))
        self.assertIn("class", refused("--data", "one"))
        write_idx(self.folder / "short", "train", 20)
        labels = self.folder / "short" / "train-labels-idx1-ubyte"
        labels.write_bytes(labels.read_bytes()[:-3])
        self.assertIn("train-labels-idx1-ubyte", refused("--data", "short"))
        code, _, error = run(self.folder, "new", "mlp", "start.onnx", "--input", 5, "--classes", 2)
        self.assertEqual(code, 0, error)
        (self.folder / "narrow.csv").write_text("a,b,label\n1,2,0\n3,4,1\n")
        self.assertRegex(refused("--data", "narrow.csv"), "narrow.csv.*5")

    def test_of_several_outputs_the_card_chooses(self):
        weights = [fixtures.floats(name, [5, size], [0.1 * i for i in range(5 * size)])
                   for name, size in (("w", 2), ("v", 3))]
        (self.folder / "start.onnx").write_bytes(fixtures.model(
            [fixtures.node("MatMul", ["x", "w"], ["a"]), fixtures.node("Gemm", ["x", "v"], ["b"])],
            [fixtures.value_info("x", ["batch", 5])],
            [fixtures.value_info("a", ["batch", 2]), fixtures.value_info("b", ["batch", 3])],
            weights))
        (self.folder / "rows.csv").write_text(
            "a,b,c,d,e,label\n" + "1,2,3,4,5,0\n0,1,0,1,0,1\n5,4,3,2,1,2\n" * 5)
        train = ["train", "start.onnx", "out.onnx", "--data", "rows.csv", "--epochs", 1]
        code, _, error = run(self.folder, *train)
        self.assertEqual(code, 1, error)
        self.assertIn("several outputs ('a', 'b')", error)
        self.assertIn("output: {kind: regression, tensor: a}", error)
        self.assertFalse((self.folder / "out.onnx").exists())
        card = self.folder / "start.yaml"
        card.write_text("output: {kind: classification, tensor: none}\n")
        code, _, error = run(self.folder, *train)
        self.assertEqual(code, 1, error)
        self.assertIn("names output 'none', but the model gives: a, b", error)
        card.write_text("output: {kind: classification, tensor: b}\n")
        report = self.json_of(*train)
        self.assertEqual(report["trained"], ["v"])

    def test_quantised_models_are_not_trained_and_the_way_out_is_named(self):
        self.assertEqual(self.train("floats.onnx")[0], 0)
        for how in ([], ["--dynamic"], ["--weights", "int4"]):
            self.json_of("quantize", "floats.onnx", "start.onnx", "--data", ".", *how)
            code, _, error = self.train("out.onnx")
            self.assertEqual(code, 1, error)
            self.assertIn("the model is quantised: train the float model", error)
            self.assertIn("selvage quantize --train", error)
            self.assertFalse((self.folder / "out.onnx").exists())

    def test_data_that_change_meanwhile_stop_the_run_and_keep_the_checkpoint(self):
        process = subprocess.Popen(
            [PROGRAM, "train", "start.onnx", "out.onnx", "--data", ".", "--epochs", "50"],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()  # An epoch is done.
        images = self.folder / "train-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:-1] + b"x")
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, error)
        self.assertIn("changed", error)
        self.assertTrue((self.folder / "out.onnx.checkpoint").exists())
        self.assertFalse((self.folder / "out.onnx").exists())

    def test_distils_beside_a_control(self):
        self.assertEqual(self.train("teacher.onnx")[0], 0)
        code, _, error = run(self.folder, "new", "mlp", "student.onnx", "--input", "1x12x12",
                             "--classes", 4, "--seed", 3)
        self.assertEqual(code, 0, error)
        code, text, error = run(
            self.folder, "distill", "student.onnx", "small.onnx", "--teacher", "teacher.onnx",
            "--data", ".", "--epochs", 2, "--control", "--json",
            env={"XDG_CACHE_HOME": str(self.folder / "cache"), "PATH": "/usr/bin"})
        self.assertEqual(code, 0, error)
        report = json.loads(text)
        self.assertEqual(len(report["epochs"]), 2)
        self.assertEqual(len(report["control"]["epochs"]), 2)
        self.assertEqual(len(list((self.folder / "cache").rglob("teacher-*"))), 1)

    def json_of(self, *arguments):
        code, text, error = run(
            self.folder, *arguments, "--json",
            env={"XDG_CACHE_HOME": str(self.folder / "cache"), "PATH": "/usr/bin"})
        self.assertEqual(code, 0, error)
        return json.loads(text)

    def test_a_teacher_that_numbers_the_classes_otherwise_is_refused(self):
        for name, value in (("day", 200), ("night", 20)):
            (self.folder / "photos" / name).mkdir(parents=True)
            for i in range(8):
                (self.folder / "photos" / name / f"{i}.pgm").write_bytes(
                    b"P5 12 12 255\n" + bytes([value + i]) * 144)
        for name in ("student", "teacher"):
            self.json_of("new", "mlp", f"{name}.onnx", "--input", "1x12x12", "--classes", 2)
        distill = ["distill", "student.onnx", "small.onnx", "--teacher", "teacher.onnx",
                   "--data", "photos", "--epochs", 1]
        card = self.folder / "teacher.yaml"
        card.write_text("output: {kind: classification, labels: [night, day]}\n")
        code, _, error = run(self.folder, *distill)
        self.assertEqual(code, 1, error)
        self.assertIn("is class 1 to teacher 'teacher.onnx' and class 0 to the student", error)
        card.write_text("output: {kind: classification, labels: [day, night]}\n")
        self.json_of(*distill)

    def test_a_teacher_that_does_not_fit_is_refused(self):
        for name, classes in (("student", 4), ("teacher", 5)):
            self.json_of("new", "mlp", f"{name}.onnx", "--input", "1x12x12", "--classes", classes)
        distill = ["distill", "student.onnx", "small.onnx", "--data", ".", "--epochs", 1]
        code, _, error = run(self.folder, *distill, "--teacher", "teacher.onnx")
        self.assertEqual(code, 1, error)
        self.assertIn("the teacher answers with 5 numbers, the student's 'output' has 4", error)
        (self.folder / "rows.csv").write_text("a,y\n" + "0.1,0.25\n0.7,0.5\n" * 20)
        self.json_of("new", "mlp", "line.onnx", "--input", 1, "--classes", 1)
        code, _, error = run(self.folder, "distill", "line.onnx", "small.onnx", "--epochs", 1,
                             "--data", "rows.csv", "--teacher", "line.onnx")
        self.assertEqual(code, 1, error)
        self.assertIn("have no classes to choose from", error)
        before = digest(self.folder / "teacher.onnx")
        code, _, error = run(self.folder, "distill", "student.onnx", "teacher.onnx", "--data", ".",
                             "--teacher", "start.onnx", "--teacher", "teacher.onnx")
        self.assertEqual(code, 1, error)
        self.assertIn("'teacher.onnx' is read or written as well", error)
        self.assertEqual(digest(self.folder / "teacher.onnx"), before)

    def test_a_feature_is_matched(self):
        self.assertEqual(self.train("teacher.onnx")[0], 0)
        self.json_of("new", "mlp", "student.onnx", "--input", "1x12x12", "--classes", 4)
        distill = ["distill", "student.onnx", "small.onnx", "--teacher", "teacher.onnx",
                   "--data", ".", "--epochs", 1, "--feature"]
        report = self.json_of(*distill, "output=output")
        self.assertEqual(report["features"], ["output=output"])
        code, _, error = run(self.folder, *distill, "output=nothing")
        self.assertEqual(code, 1)
        self.assertIn("no node of the teacher has an output 'nothing'", error)
        code, _, error = run(self.folder, *distill, "output")
        self.assertIn("write STUDENT=TEACHER", error)
        code, _, error = run(self.folder, *distill[:-1], "--feature-weight", 5)
        self.assertIn("--feature-weight requires --feature", error)

    def test_pruning_is_healed(self):
        self.assertEqual(self.train("dense.onnx")[0], 0)
        prune = ["prune", "dense.onnx", "small.onnx", "--macs", "50%", "--round", 1, "--data", ".",
                 "--importance", "taylor", "--threads", 1]
        bare = self.json_of(*prune)
        report = self.json_of(*prune, "--finetune", "--epochs", 3)
        self.assertEqual(len(report["finetuned"]["epochs"]), 3)
        self.assertEqual(report["groups"], bare["groups"])
        self.assertLess(report["after"]["macs"], 0.51 * report["before"]["macs"])
        accuracy = report["after"]["accuracy"]
        self.assertGreater(accuracy, 0.95)
        self.assertGreaterEqual(accuracy, bare["after"]["accuracy"])
        self.assertFalse((self.folder / "small.onnx.checkpoint").exists())
        code, _, error = run(self.folder, "prune", "dense.onnx", "small.onnx", "--importance",
                             "taylor")
        self.assertEqual(code, 1)
        self.assertIn("--data", error)

    def test_healing_goes_on_after_a_kill(self):
        self.assertEqual(self.train("dense.onnx")[0], 0)

        def prune(out):
            return ["prune", "dense.onnx", out, "--macs", "50%", "--round", 1, "--data", ".",
                    "--finetune", "--epochs", 3, "--threads", 1]

        self.json_of(*prune("undisturbed.onnx"))
        process = subprocess.Popen([PROGRAM, *map(str, prune("out.onnx"))], cwd=self.folder,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.assertIn("epoch 1/3", process.stdout.readline())
        process.kill()
        process.communicate()
        self.assertFalse((self.folder / "out.onnx").exists())
        self.assertGreater(self.json_of(*prune("out.onnx"))["finetuned"]["resumed_step"], 0)
        self.assertEqual(digest(self.folder / "out.onnx"), digest(self.folder / "undisturbed.onnx"))

    def test_weights_of_4_bits_are_trained_behind_their_rounding(self):
        self.assertEqual(self.train("floats.onnx")[0], 0)
        quantize = ["quantize", "floats.onnx", "small.onnx", "--data", ".", "--weights", "int4"]
        bare = self.json_of(*quantize)
        report = self.json_of(*quantize, "--train", "--epochs", 3)
        self.assertEqual(len(report["training"]["epochs"]), 3)
        self.assertEqual(report["quantized_weights"], bare["quantized_weights"])
        accuracy = report["after"]["accuracy"]
        self.assertGreater(accuracy, 0.95)
        self.assertGreaterEqual(accuracy, bare["after"]["accuracy"])
        self.assertLess(report["after"]["file_bytes"], 0.3 * report["before"]["file_bytes"])
        self.assertFalse((self.folder / "small.onnx.checkpoint").exists())
        code, _, error = run(self.folder, "quantize", "floats.onnx", "small.onnx", "--data", ".",
                             "--dynamic", "--train")
        self.assertEqual(code, 1)
        self.assertIn("--train is for --static", error)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
