#!/usr/bin/env python3
"""The program from outside: what it prints, how it fails, what programs read.

  tests/cli/cli_test.py PROGRAM DEPS           runs the tests
  tests/cli/cli_test.py PROGRAM DEPS --update  writes the help texts into docs/commands.md
"""

import json
import os
import pathlib
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import fixtures

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMANDS_PAGE = ROOT / "docs/commands.md"
PROGRAM, DEPS = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])


def run(*arguments, environment=None, folder=None, **options):
    """Exit code, standard output and standard error."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
        timeout=120,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )
    return done.returncode, done.stdout, done.stderr


def helps():
    """The arguments before --help: none, and every command that the top help lists."""
    commands = re.search(r"\nCommands:\n(.*?)\n\n", run("--help")[1], re.S)[1]
    return [[]] + [[name] for name in re.findall(r"^  ([a-z]+) ", commands, re.M)]


def help_block(command):
    name = " ".join(["selvage", *command, "--help"])
    return f"```text\n$ {name}\n{run(*command, '--help')[1]}```\n"


def without_times(text):
    """Durations as <time>, so that the rest can be compared."""
    text = re.sub(r"\d+(\.\d+)? (ns|us|ms|s)\b", "<time>", text)
    return re.sub(r"\((under|over) 10 ms\)|\((under|over) <time>\)", "(<verdict>)", text)


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.environ["SELVAGE_CACHE"] = str(self.folder / "cache")

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def matmul(self):
        return self.write("matmul.onnx", fixtures.matmul_model())

    def colours(self):
        self.write("colours/model.yaml", fixtures.COLOUR_CARD)
        self.write("colours/model.onnx", fixtures.mean_colour_model())
        return self.folder / "colours"

    def loudness(self):
        self.write("loudness/model.yaml", fixtures.LOUDNESS_CARD)
        self.write("loudness/model.onnx", fixtures.loudness_model())
        return self.folder / "loudness"

    def output_of(self, *arguments, **options):
        code, out, error = run(*arguments, **options)
        self.assertEqual((code, error), (0, ""), out)
        return out

    def json_of(self, *arguments, **options):
        out = self.output_of(*arguments, "--json", **options)
        self.assertEqual(out.count("\n"), 1)
        return json.loads(out)

    def fails(self, code, *arguments, **options):
        """What it says on standard error; with --json the same on standard output."""
        found, out, error = run(*arguments, **options)
        self.assertEqual(found, code, error)
        self.assertEqual(out, "")
        self.assertTrue(error.startswith("selvage: "), error)
        found, out, _ = run(*arguments, "--json", **options)
        self.assertEqual(found, code)
        self.assertEqual(json.loads(out)["error"]["message"], error.removeprefix("selvage: ")[:-1])
        return error

    def interrupted(self, *arguments, after):
        """What it prints on both outputs if Ctrl-C ends it after so many seconds."""
        process = subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, error)
        return out, error


class HelpTest(Case):
    def test_commands_page_shows_the_helps(self):
        page = COMMANDS_PAGE.read_text()
        for command in helps():
            with self.subTest(command):
                up_to_date = help_block(command) in page
                self.assertTrue(up_to_date, "run tests/cli/cli_test.py PROGRAM DEPS --update")

    def test_every_help_fits_a_terminal(self):
        self.assertGreater(len(helps()), 5)
        for command in helps():
            text, _, _ = run(*command, "--help")[1].partition("\nExamples:\n")
            for line in text.splitlines():
                self.assertLessEqual(len(line), 90)

    def test_version(self):
        self.assertRegex(self.output_of("--version"), r"^selvage \d+\.\d+\.\d+\n$")

    def test_completions_are_scripts(self):
        bash = self.output_of("completion", "bash")
        script = bash + 'COMP_WORDS=(selvage b); COMP_CWORD=1; _selvage; echo "${COMPREPLY[@]}"\n'
        script += 'COMP_WORDS=(selvage run --dr); COMP_CWORD=2; _selvage; echo "${COMPREPLY[@]}"\n'
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "bench\n--draw\n")
        self.assertTrue(self.output_of("completion", "zsh").startswith("#compdef selvage\n"))

    def test_manual_has_every_command(self):
        page = self.output_of("man")
        self.assertTrue(page.startswith(".TH SELVAGE 1 "))
        names = [name for (name,) in helps()[1:]]
        for name in names:
            self.assertIn(f".SS selvage {name}\n", page)
        sections = re.split(r"^\.SH ", page, flags=re.M)
        titles = [section.partition("\n")[0] for section in sections[1:]]
        self.assertEqual(titles, ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "ENVIRONMENT",
                                  "EXIT STATUS", "EXAMPLES"])
        description, commands = sections[3], sections[4]
        self.assertIn("Selvage takes an .onnx file", description)
        self.assertNotIn("Usage:", description)
        for name in names:
            self.assertIn(f".TP\n.B {name}\n", commands)
        self.assertIn("--draw PATH", page.replace("\\-", "-"))


class UsageTest(Case):
    def test_wrong_usage(self):
        cases = {
            (): "which command? See `selvage --help`",
            ("bnech",): "no command 'bnech': did you mean 'bench'? See `selvage --help`",
            ("xyz",): "no command 'xyz'; see `selvage --help`",
            ("--verson",): "no option '--verson': did you mean '--version'? See `selvage --help`",
            ("run", "m", "i", "--drwa=x"): "no option '--drwa': did you mean '--draw'? "
            "See `selvage run --help`",
            ("bench",): "MODEL is missing; see `selvage bench --help`",
            ("run", "--jsn"): "no option '--jsn': did you mean '--json'? See `selvage run --help`",
            ("run", "m", "i", "--dim", "batch"): "--dim: 'batch' is not NAME=VALUE; "
            "see `selvage run --help`",
            ("run", "m", "i", "--dim", "batch=0"): "--dim: 'batch=0': the size must be a whole "
            "number above 0; see `selvage run --help`",
            ("run", "m", "i", "--config", "x="): "--config: 'x=' is not NAME=VALUE; "
            "see `selvage run --help`",
            ("run", "m", "i", "--provider", ""): "--provider: needs a name; see `selvage run --help`",
            ("bench", "m", "--shape", "foo"): "--shape: 'foo' is not INPUT=AxBx..., such as "
            "x=1x3x224x224; see `selvage bench --help`",
            ("bench", "m", "--shape", "x=1x"): "--shape: '1x' is no shape: write 1x3x224x224; "
            "see `selvage bench --help`",
            ("run", "model.onnx"): "INPUT is missing; see `selvage run --help`",
            ("inspect", "a", "b"): "unexpected argument 'b'; see `selvage inspect --help`",
            ("bench", "m", "--power", "fast"): "--power: 'fast' is not one of latency, balanced and "
            "low-power; see `selvage bench --help`",
            ("bench", "m", "--threads", "-1"): "--threads: '-1' is not a whole number from 0 to 256; "
            "see `selvage bench --help`",
            ("bench", "m", "--threads", "1.5"): "--threads: '1.5' is not a whole number from 0 to 256; "
            "see `selvage bench --help`",
            ("bench", "m", "--concurrency", "many"): "--concurrency: 'many' is not a whole number "
            "from 1 to 1024; see `selvage bench --help`",
            ("bench", "m", "--compare", "--rate", "9"): "--compare excludes --rate; "
            "see `selvage bench --help`",
            ("bench", "m", "--input", "x", "--shape", "x=1"): "--input excludes --shape; "
            "see `selvage bench --help`",
            ("inspect", "m", "--shape", "x=1"): "--shape requires --profile; "
            "see `selvage inspect --help`",
            ("bench", "m", "--rate", "much"): "--rate: 'much' is not a number from 0.001 to 1000000; "
            "see `selvage bench --help`",
        }
        for arguments, message in cases.items():
            with self.subTest(arguments):
                self.assertEqual(self.fails(2, *arguments), f"selvage: {message}\n")

    def test_log_level(self):
        error = self.fails(2, "doctor", environment={"SELVAGE_LOG": "loud"})
        self.assertIn("debug, info, warning, error or off", error)

    def test_standard_output_that_is_full(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "--version"], stdout=full, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"standard output could not be written", done.stderr)


class RunTest(Case):
    def test_arrays_without_a_card(self):
        array = self.write("x.npy", fixtures.npy([1, 2, 3, 4], [1, 4]))
        out = without_times(self.output_of("run", self.matmul(), array))
        self.assertEqual(
            out,
            "x.npy (float32 [1,4]): 1 output\n"
            "    output  type     shape   min  mean   max  first elements\n"
            "    y       float32  [1,2]  10.0  15.0  20.0  10.0, 20.0\n"
            "    decode <time> | preprocess <time>, run <time>, postprocess <time>, total <time>"
            " (<verdict>)\n",
        )
        # NumPy's default is float64.
        array = self.write("wide.npy", fixtures.npy([1, 2, 3, 4], [1, 4], "<f8"))
        found = self.json_of("run", self.matmul(), array)["results"][0]["found"]
        self.assertEqual(found["tensors"][0]["values"], [10, 20])
        self.assertEqual(found["tensors"][0]["shape"], [1, 2])

    def test_rows_without_a_card(self):
        table = self.write("x.csv", "a,b,c,d\n1,2,3,4\n0,0,0,1\n")
        results = self.json_of("run", self.matmul(), table)["results"]
        self.assertEqual([one["place"] for one in results], ["row 1", "row 2"])
        values = [one["found"]["tensors"][0]["values"] for one in results]
        self.assertEqual(values, [[10, 20], [1, 3]])

    def test_rows_by_a_card(self):
        self.write("sums/model.onnx", fixtures.matmul_model())
        self.write("sums/model.yaml", fixtures.TABLE_CARD)
        table = self.write("x.csv", "d,extra,c,b,a\n4,9,3,2,1\n1,9,0,0,0\n")
        out = without_times(self.output_of("run", self.folder / "sums", table))
        lines = out.splitlines()
        self.assertEqual(lines[0], "x.csv (4 columns)")
        self.assertEqual(lines[1], "  row 1  sum = 10.0, weighted = 20.0  <time>")
        self.assertEqual(lines[2], "  row 2  sum = 1.00, weighted = 3.00  <time>")
        self.assertEqual(lines[3], "  2 predictions: p50 <time>, p99 <time>, max <time>")
        self.assertEqual(len(self.json_of("run", self.folder / "sums", table, "--limit", 1)["results"]), 1)

    def test_pictures(self):
        red = self.write("red.ppm", fixtures.ppm(40, 30, (255, 51, 0)))
        out = without_times(self.output_of("run", self.colours(), red))
        self.assertEqual(
            out,
            "red.ppm (40 x 30 pixels): red 1.00\n"
            "    class  score\n"
            "    red    1.000\n"
            "    green  0.200\n"
            "    blue   0.000\n"
            "    decode <time> | preprocess <time>, run <time>, postprocess <time>, total <time>"
            " (<verdict>)\n",
        )
        result = self.json_of("run", self.colours(), red)
        self.assertEqual(result["model"]["name"], "colours")
        (one,) = result["results"]
        self.assertEqual((one["input"], one["summary"], one["windows"]), (str(red), "red 1.00", 1))
        self.assertEqual(one["found"]["kind"], "classification")
        self.assertEqual([c["label"] for c in one["found"]["classes"]], ["red", "green", "blue"])
        times = one["milliseconds"]
        self.assertEqual(set(times), {"decode", "preprocess", "run", "postprocess", "total"})
        self.assertLessEqual(times["preprocess"] + times["run"] + times["postprocess"], times["total"])

    def test_drawing(self):
        pictures = [self.write(f"{i}/red.ppm", fixtures.ppm(200, 90, (255, 51, 0))) for i in range(2)]
        one = self.folder / "one.png"
        self.output_of("run", self.colours(), pictures[0], "--draw", one)
        self.assertEqual(one.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        jpeg = self.folder / "one.jpg"
        self.output_of("run", self.colours(), pictures[0], "--draw", jpeg)
        self.assertEqual(jpeg.read_bytes()[:3], b"\xff\xd8\xff")
        upper = self.folder / "ONE.JPG"
        self.output_of("run", self.colours(), pictures[0], "--draw", upper)
        self.assertEqual(upper.read_bytes()[:3], b"\xff\xd8\xff")
        several = self.folder / "drawn"
        results = self.json_of("run", self.colours(), *pictures, "--draw", several)["results"]
        self.assertEqual([r["drawn"] for r in results], [f"{several}/red.png", f"{several}/red-2.png"])
        self.assertEqual(sorted(p.name for p in several.iterdir()), ["red-2.png", "red.png"])

    def test_a_file_that_memory_cannot_hold_is_an_error(self):
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (64000000, 4), }"
        array = self.write("huge.npy", b"\x93NUMPY\x01\x00" + bytes([len(head), 0]) + head)
        model = self.write("huge.onnx", b"")
        os.truncate(array, len(array.read_bytes()) + 1_024_000_000)
        os.truncate(model, 1 << 30)
        for arguments in (("run", self.matmul(), array), ("run", model, array)):
            done = subprocess.run(
                [PROGRAM, *arguments], capture_output=True, text=True, timeout=60,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20)))
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("huge", done.stderr)
            self.assertIn("out of memory", done.stderr)

    def test_sizes_that_a_model_leaves_open(self):
        error = self.fails(1, "bench", DEPS / "models/silero-vad", "--runs", 5)
        self.assertIn("--shape input=", error)
        input = self.json_of("bench", DEPS / "models/ppocr-det", "--runs", 1)["input"]
        self.assertRegex(input, r"\[1,3,\d{3},\d{3}\]")

    def test_drawing_never_replaces_an_input(self):
        content = fixtures.ppm(20, 9, (255, 51, 0))
        red, blue = self.write("in/red.png", content), self.write("other/red.ppm", content)
        error = self.fails(1, "run", self.colours(), red, "--draw", red)
        self.assertIn("is an input, which would be overwritten", error)
        results = self.json_of("run", self.colours(), red, blue, "--draw", red.parent)["results"]
        self.assertEqual([pathlib.Path(r["drawn"]).name for r in results], ["red-2.png", "red-3.png"])
        self.assertEqual(red.read_bytes(), content)

    def test_drawing_keeps_what_the_name_promises(self):
        red = self.write("red.ppm", fixtures.ppm(20, 9, (255, 51, 0)))
        table = self.write("sums/x.csv", "a,b,c,d\n1,2,3,4\n4,3,2,1\n")
        gif, one, folder = (self.folder / name for name in ("out.gif", "one.png", "out.d"))
        error = self.fails(1, "run", self.colours(), red, "--draw", gif)
        self.assertIn("written as .png or .jpg", error)
        self.assertIn("--draw names no file", self.fails(1, "run", self.colours(), red, "--draw", ""))
        error = self.fails(1, "run", self.colours(), red, red, "--draw", one)
        self.assertIn("one file cannot hold several pictures; name a folder, such as one/", error)
        error = self.fails(1, "run", self.matmul(), table, "--draw", one)
        self.assertIn("one file cannot hold several pictures", error)
        self.assertEqual([path.exists() for path in (gif, one)], [False, False])
        self.output_of("run", self.colours(), red, "--draw", f"{folder}/")
        self.assertEqual([path.name for path in folder.iterdir()], ["red.png"])
        self.output_of("run", self.colours(), red, "--draw", folder)  # It exists now.

    def test_pipes_are_read_once(self):
        red = fixtures.ppm(40, 30, (255, 51, 0))
        array = fixtures.npy([1, 2, 3, 4], [1, 4])
        wav = self.folder / "x.wav"
        fixtures.write_wav(wav, [20000] * 16000)
        self.write("sums/model.onnx", fixtures.matmul_model())
        self.write("sums/model.yaml", fixtures.TABLE_CARD)
        cases = [
            (self.colours(), red, "red 1.00"),
            (self.matmul(), array, "1 output"),
            (self.loudness(), wav.read_bytes(), "active 1.0 s of 1.0 s"),
            (self.folder / "sums", b"a,b,c,d\n1,2,3,4\n", "sum = 10.0"),
        ]
        for model, content, found in cases:
            for name in ("-", "/dev/stdin"):
                with self.subTest((model.name, name)):
                    done = subprocess.run([PROGRAM, "run", model, name], input=content, capture_output=True)
                    self.assertEqual((done.returncode, done.stderr), (0, b""))
                    self.assertIn(found, done.stdout.decode())
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["cp", self.write("red.ppm", red), pipe]):
            self.assertIn("red 1.00", self.output_of("run", self.colours(), pipe))
        with open(self.folder / "red.ppm") as file:
            self.assertIn("red 1.00", self.output_of("run", self.colours(), "-", stdin=file))

    def test_names_cannot_act_on_the_terminal(self):
        escape = "\x1b[2J"
        red = self.write(f"{escape}\n.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        self.write("evil/model.onnx", fixtures.mean_colour_model())
        label = json.dumps(f"r{escape}")
        self.write("evil/model.yaml", fixtures.COLOUR_CARD.replace("red", label).replace("colours", label))
        evil = self.folder / "evil"
        drawn = self.folder / f"{escape}.png"
        texts = [
            self.output_of("run", evil, red, "--draw", drawn),
            self.output_of("inspect", evil),
            self.output_of("bench", evil, "--input", red, "--runs", 3, "--no-cold-start"),
            run("run", evil, self.folder / f"{escape}.missing")[2],
        ]
        for text in texts:
            self.assertNotIn("\x1b", text)
        self.assertTrue(texts[0].startswith("\\x1b[2J\\n.ppm (4 x 4 pixels): r\\x1b[2J 1.00\n"), texts[0])
        found = self.json_of("run", evil, red)["results"][0]["found"]
        self.assertEqual(found["classes"][0]["label"], f"r{escape}")

    def test_a_full_disk_under_the_cache_costs_only_time(self):
        def little_room():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Writing then fails as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

        red = self.write("red.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        code, out, error = run("run", self.colours(), red, preexec_fn=little_room)
        self.assertEqual(code, 0, error)
        self.assertIn("red 1.00", out)
        self.assertIn("the disk of the cache is full", error)
        self.assertEqual(error.count("the optimised model is not cached"), 1, error)

    def test_a_card_of_another_model_is_not_taken(self):
        red = self.write("red.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        other = self.write("colours/other.onnx", fixtures.mean_colour_model())
        self.assertIn("takes arrays", self.fails(1, "run", self.colours() / "other.onnx", red))
        self.write("colours/other.yaml", fixtures.COLOUR_CARD)
        self.assertIn("red 1.00", self.output_of("run", other, red))

    def test_sound(self):
        loud, quiet = [20000] * 8000, [100] * 8000
        fixtures.write_wav(self.folder / "x.wav", quiet + loud + quiet)
        drawn = self.folder / "x.png"
        out = self.output_of("run", self.loudness(), self.folder / "x.wav", "--draw", drawn)
        self.assertIn("x.wav (1.5 s at 16 kHz): active 0.5 s of 1.5 s, in 1 part\n", out)
        self.assertRegex(out, r"\n +0\.50 s +1\.00 s +0\.61\n")
        self.assertIn("150 windows, each preprocess", out)
        self.assertTrue(drawn.exists())
        (one,) = self.json_of("run", self.loudness(), self.folder / "x.wav")["results"]
        self.assertEqual((one["windows"], len(one["found"]["scores"])), (150, 150))

    def test_a_file_name_that_is_not_utf8(self):
        path = os.fsencode(self.folder) + b"/\xff.ppm"
        with open(path, "wb") as file:
            file.write(fixtures.ppm(4, 4, (0, 255, 0)))
        done = subprocess.run([PROGRAM, "run", self.colours(), path, "--json"], capture_output=True)
        self.assertIn("\ufffd.ppm", json.loads(done.stdout.decode())["results"][0]["input"])

    def test_failures_name_the_thing_and_the_way_out(self):
        red = self.write("red.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        corrupt = self.write("corrupt.onnx", fixtures.matmul_model()[:-20])
        array = self.write("x.npy", fixtures.npy([1, 2], [1, 2], "<i8"))
        narrow = self.write("narrow.npy", fixtures.npy([1, 2], [1, 2]))
        silent = self.folder / "silent.wav"
        fixtures.write_wav(silent, [])
        cases = [
            (["missing.onnx", red], ["no model 'missing.onnx'", "give a model.onnx"]),
            ([corrupt, red], ["corrupt.onnx"]),
            ([red, red], ["red.ppm"]),
            ([red, red], ["red.ppm", "not an ONNX model"]),
            ([self.folder, red], ["no model.onnx in the folder", "corrupt.onnx"]),
            ([self.write("empty", ""), red], ["empty", "the file is empty"]),
            (["/dev/null", red], ["'/dev/null' is a pipe or a device"]),
            ([self.colours() / "model.yaml", red], ["is the card of a model", "colours/model.onnx"]),
            ([self.colours(), "missing.png"], ["no file 'missing.png'"]),
            ([self.colours(), ""], ["no file ''"]),
            ([self.colours(), "/dev/null"], ["'/dev/null' is empty"]),
            ([self.colours(), self.folder / "empty"], ["empty' is empty"]),
            ([self.colours(), self.write("x.jpg", "junk")], ["x.jpg", "neither a picture"]),
            ([self.colours(), red / "x"], ["red.ppm/x", "Not a directory"]),
            ([self.loudness(), silent], ["silent.wav", "no samples"]),
            ([self.matmul(), self.write("x.csv", "a,b,c,d\n")], ["x.csv", "no rows below its header"]),
            ([self.colours(), self.folder], ["is a folder"]),
            ([self.colours(), array], ["x.npy", "takes pictures or video"]),
            ([self.colours(), self.matmul()], ["matmul.onnx", "neither a picture"]),
            ([self.matmul(), red], ["is a picture", "takes arrays", "docs/model-card.md"]),
            ([self.matmul(), array], ["x.npy", "input 'x' is float32", "int64", "astype('float32')"]),
            ([self.matmul(), narrow], ["x"]),
            ([self.colours(), self.write("cut.ppm", red.read_bytes()[:-3])], ["cut.ppm"]),
            ([self.colours(), red, "--draw", self.folder / "no/such/x.png"], ["no/such"]),
            ([self.matmul(), red, "--dim", "btach=1"], ["'btach': did you mean 'batch'?"]),
            ([self.matmul(), red, "--dim", "x=1"], ["'x'; there are batch"]),
            ([self.colours(), red, "--dim", "batch=1"], ["'batch'; none is open by name"]),
            ([self.matmul(), red, "--config", "session.disable_prepackin=1"],
             ["did you mean 'session.disable_prepacking'?"]),
            ([self.matmul(), red, "--threads", 2, "--config", "session.intra_op_thread_affinities=abc"],
             ["with session.intra_op_thread_affinities=abc: ", "Processor id"]),
        ]
        for arguments, parts in cases:
            with self.subTest(arguments):
                error = self.fails(1, "run", *arguments)
                for part in parts:
                    self.assertIn(part, error)
                self.assertNotIn("onnxruntime_src", error)

    def test_one_bad_file_does_not_cost_the_others(self):
        good = [self.write(f"{i}.ppm", fixtures.ppm(4, 4, (255, 0, 0))) for i in range(2)]
        cut = self.write("cut.ppm", good[0].read_bytes()[:-3])
        arguments = ["run", self.colours(), good[0], cut, good[1]]
        code, out, error = run(*arguments)
        self.assertEqual(code, 1)
        self.assertIn("0.ppm", out)
        self.assertIn("1.ppm", out)
        self.assertIn("cut.ppm", error)
        self.assertIn("1 of 3 inputs failed", error)
        code, out, _ = run(*arguments, "--json")
        self.assertEqual(code, 1)
        results = json.loads(out)["results"]
        self.assertEqual([("error" in result) for result in results], [False, True, False])
        self.assertEqual([result["input"] for result in results], [str(x) for x in arguments[2:]])

    def test_one_bad_row_does_not_cost_the_others(self):
        self.write("look/model.onnx", fixtures.gather_model())
        self.write("look/model.yaml", "input: {kind: table}\noutput: {kind: regression}\n")
        table = self.write("x.csv", "index\n1\n7\n2\n")
        code, out, error = run("run", self.folder / "look", table)
        self.assertEqual(code, 1)
        self.assertIn("row 1  20.0", out)
        self.assertIn("row 3  30.0", out)
        self.assertIn("x.csv, row 2: ", error)
        self.assertIn("1 row failed", error)
        code, out, _ = run("run", self.folder / "look", table, "--json")
        self.assertEqual(code, 1)
        results = json.loads(out)["results"]
        self.assertEqual([result.get("place") for result in results], ["row 1", "row 2", "row 3", None])
        self.assertEqual(["error" in result for result in results], [False, True, False, True])

    def test_every_file_is_a_stream_of_its_own(self):
        self.write("sum/model.onnx", fixtures.sum_model())
        self.write("sum/model.yaml", "input: {state: {h: hn}}\n")
        files = [self.write(f"{i}.npy", fixtures.npy([5], [1])) for i in range(2)]
        results = self.json_of("run", self.folder / "sum", *files)["results"]
        values = [one["found"]["tensors"][0]["values"] for one in results]
        self.assertEqual(values, [[5], [5]])

    def test_pipes_among_a_models_files(self):
        self.write("m/model.onnx", fixtures.matmul_model())
        os.mkfifo(self.folder / "m/model.yaml")
        self.assertIn("a pipe or a device", self.fails(1, "run", self.folder / "m", "x.npy"))

    def test_devices_are_not_replaced_by_pictures(self):
        red = self.write("red.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.assertIn("pipe", self.fails(1, "run", self.colours(), red, "--draw", pipe))
        self.assertTrue(pipe.is_fifo())

    def test_a_signal_ends_waiting_for_a_pipe(self):
        pipe = self.folder / "pipe.ppm"
        os.mkfifo(pipe)
        process = subprocess.Popen([PROGRAM, "run", self.colours(), pipe], stderr=subprocess.PIPE)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)

    def test_colour_on_terminals_that_want_it(self):
        red = self.write("red.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        colours = self.colours()

        def on_terminal(environment):
            master, slave = pty.openpty()
            with subprocess.Popen(
                [PROGRAM, "run", colours, red],
                stdout=slave,
                stderr=slave,
                env={**os.environ, "TERM": "xterm", **environment},
            ) as process:
                os.close(slave)
                text = b""
                while select.select([master], [], [], 30)[0]:
                    try:
                        text += os.read(master, 4096)
                    except OSError:  # The other end is closed.
                        break
                os.close(master)
                self.assertEqual(process.wait(30), 0)
            return text

        self.assertIn(b"\x1b[1mred.ppm", on_terminal({}))
        self.assertNotIn(b"\x1b[", on_terminal({"NO_COLOR": "1"}))
        self.assertNotIn(b"\x1b[", on_terminal({"TERM": "dumb"}))


class BenchTest(Case):
    def check_latency(self, latency):
        points = [latency[name] for name in ("min", "p50", "p90", "p99", "p99_9", "max")]
        self.assertEqual(points, sorted(points))
        self.assertGreater(latency["count"], 0)

    def test_random_tensors(self):
        result = self.json_of("bench", self.matmul(), "--runs", 200, "--shape", "x=3x4")
        self.assertEqual(result["latency_ms"]["count"], 200)
        self.assertEqual((result["input"], result["unit"]), ("random x [3,4]", "run"))
        self.check_latency(result["latency_ms"])
        self.assertEqual(result["stages"], [])
        self.assertGreater(result["memory_bytes"]["most"], result["memory_bytes"]["before"])
        cold = result["cold_start"]
        self.assertGreater(cold["later_ms"], 1)
        self.assertGreater(cold["resident_bytes"], 10 << 20)

    def test_whole_path(self):
        red = self.write("red.ppm", fixtures.ppm(4, 4, (255, 0, 0)))
        options = ["--input", red, "--seconds", 0.3, "--concurrency", 2, "--no-cold-start"]
        result = self.json_of("bench", self.colours(), *options)
        self.assertEqual(result["callers"], 2)
        self.assertIsNone(result["cold_start"])
        self.assertEqual([s["stage"] for s in result["stages"]], ["preprocess", "run", "postprocess"])
        for stage in result["stages"]:
            self.assertEqual(stage["latency_ms"]["count"], result["latency_ms"]["count"])
        text = self.output_of("bench", self.colours(), *options)
        for part in ("colours on red.ppm (4 x 4 pixels)", "p99.9", "10 ms line", "throughput"):
            self.assertIn(part, text)

    def test_streams_are_measured_window_by_window(self):
        fixtures.write_wav(self.folder / "x.wav", [100] * 48000, rate=48000)
        result = self.json_of("bench", self.loudness(), "--input", self.folder / "x.wav", "--runs", 500,
                              "--no-cold-start")
        self.assertEqual(result["unit"], "window of 10 ms")
        self.assertEqual(result["stages"][1]["latency_ms"]["count"], 500)

    def test_open_loop(self):
        result = self.json_of("bench", self.matmul(), "--rate", 100, "--seconds", 0.5, "--no-cold-start")
        self.assertEqual(result["rate_per_s"], 100)
        self.assertLessEqual(result["latency_ms"]["count"], 50)
        slow = self.json_of("bench", self.matmul(), "--rate", 0.1, "--seconds", 0.5, "--no-cold-start")
        self.assertEqual(slow["latency_ms"]["count"], 1)
        self.assertGreaterEqual(slow["seconds"], 0.5)
        self.assertGreater(result["latency_ms"]["count"], 25)

    def test_plot(self):
        plot = self.folder / "plot.svg"
        code, _, error = run("bench", self.matmul(), "--runs", 50, "--no-cold-start", "--plot", plot)
        self.assertEqual((code, error), (0, f"selvage: the latency percentiles are drawn in {plot}\n"))
        svg = xml.etree.ElementTree.parse(plot).getroot()
        self.assertEqual(len(svg.findall("{http://www.w3.org/2000/svg}polyline")), 1)

    def test_comparison_recommends_what_a_card_takes(self):
        model = self.matmul()
        result = self.json_of("bench", model, "--compare", "--seconds", 1)
        names = [one["name"] for one in result["results"]]
        self.assertIn("1 thread, low-power", names)
        self.assertTrue(any("batch 8" in name for name in names))
        chosen = result["results"][result["recommended"]]
        self.assertEqual((chosen["batch"], chosen["callers"], chosen["problem"]), (1, 1, ""))
        self.check_latency(chosen["latency_ms"])
        self.write("matmul.yaml", "name: tuned\n" + result["model_yaml"])
        tuned = self.json_of("bench", model, "--runs", 1, "--no-cold-start")
        self.assertEqual(tuned["model"], "tuned")
        self.assertEqual(tuned["session"]["threads"], chosen["threads"])
        self.assertEqual(tuned["session"]["power"], chosen["power"])

    def test_comparison_as_text_can_be_pasted(self):
        text = self.output_of("bench", self.matmul(), "--compare", "--seconds", 0.5)
        self.assertRegex(text, r"recommended\n")
        self.assertRegex(text, r"\n\nsession:\n  threads: \d+\n  power: [a-z-]+\n")

    def test_failures(self):
        self.assertIn("no input 'z' but x", self.fails(1, "bench", self.matmul(), "--shape", "z=1x4"))
        plot = ["--runs", "3", "--no-cold-start", "--plot", self.folder / "no/such/x.svg"]
        self.assertIn("no/such", self.fails(1, "bench", self.matmul(), *plot))

    def test_ctrl_c_ends_with_what_was_measured(self):
        out, _ = self.interrupted("bench", self.matmul(), "--seconds", "60", "--json", after=2)
        self.assertLess(json.loads(out)["seconds"], 50)


class InspectTest(Case):
    def test_numbers(self):
        result = self.json_of("inspect", self.matmul(), "--dim", "batch=2")
        self.assertEqual(result["inputs"], [{"name": "x", "type": "float32", "shape": ["batch", 4]}])
        self.assertEqual((result["nodes"], result["macs"], result["macs_unknown"]), (1, 2 * 4 * 2, 0))
        self.assertEqual((result["parameter_count"], result["parameter_bytes"]), (8, 32))
        self.assertEqual(result["opsets"], {"ai.onnx": 13})
        self.assertEqual(result["operators"][0]["type"], "MatMul")

    def test_text(self):
        out = self.output_of("inspect", self.colours())
        for part in ("colours\n", "Apache-2.0", "opset 13", "GlobalAveragePool", "[1,3,4,4]"):
            self.assertIn(part, out)

    def test_profile(self):
        before = set(os.listdir(tempfile.gettempdir()))
        profile = self.json_of("inspect", self.matmul(), "--profile", "--shape", "x=64x4")["profile"]
        self.assertEqual([op["type"] for op in profile["operators"]], ["MatMul"])
        self.assertEqual((len(profile["nodes"]), profile["nodes"][0]["provider"]), (1, "CPU"))
        self.assertGreater(profile["runs"], 10)
        left = set(os.listdir(tempfile.gettempdir())) - before
        self.assertEqual([name for name in left if name.startswith("selvage-")], [])

    def test_failures(self):
        self.assertIn("no model", self.fails(1, "inspect", self.folder / "x.onnx"))
        self.assertIn("junk.onnx", self.fails(1, "inspect", self.write("junk.onnx", b"junk")))
        self.write("both/ensemble.yaml", "name: x\n")
        self.assertIn("is an ensemble", self.fails(1, "inspect", self.folder / "both"))
        self.assertIn("is the card of", self.fails(1, "inspect", self.colours() / "model.yaml"))
        self.assertIn("/dev/null' is a pipe or a device", self.fails(1, "inspect", "/dev/null"))
        self.assertIn("did you mean 'batch'?", self.fails(1, "inspect", self.matmul(), "--dim", "btach=2"))


class DoctorTest(Case):
    def machine(self, files):
        for path, text in files.items():
            self.write("root/" + path, text)
        return self.folder / "root"

    def findings(self, root, *arguments):
        result = self.json_of("doctor", *arguments, "--root", root)
        return {finding["id"]: finding for finding in result["findings"]}

    def test_a_machine_in_bad_shape(self):
        found = self.findings(self.machine({
            "proc/cpuinfo": "processor : 0\nmodel name : Old Chip\nflags : sse2\n",
            "proc/meminfo": "MemTotal: 262144 kB\nMemAvailable: 65536 kB\nSwapTotal: 1000 kB\n"
                            "SwapFree: 400 kB\n",
            "proc/loadavg": "9.50 3.00 1.00 2/80 123\n",
            "proc/self/cgroup": "0::/box\n",
            "proc/self/status": "Cpus_allowed_list:\t0\n",
            "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/box/cpu.stat": "nr_periods 9\nnr_throttled 7\n",
            "sys/fs/cgroup/box/memory.max": "67108864\n",
            "sys/devices/system/cpu/online": "0-3\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
            "sys/class/thermal/thermal_zone0/temp": "91000\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
            "sys/kernel/mm/transparent_hugepage/defrag": "[always] madvise never\n",
        }))
        expected = {
            "cpu-features": "advice", "cpu-affinity": "advice", "cpu-governor": "problem",
            "temperature": "problem", "cpu-quota": "problem", "memory": "problem", "swap": "advice",
            "huge-pages": "advice", "clock-source": "problem", "load": "advice",
        }
        self.assertEqual({name: found[name]["severity"] for name in expected}, expected)
        for name in expected:
            self.assertNotEqual(found[name]["mend"], "", name)
        self.assertIn("Old Chip", found["cpu"]["found"])
        self.assertEqual(found["cpu-quota"]["found"], "0.5 cores, stopped 7 times")

    def test_a_machine_in_good_shape(self):
        found = self.findings(self.machine({
            "proc/cpuinfo": "processor : 0\nmodel name : New Chip\nflags : avx2 fma avx512_vnni\n",
            "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\nSwapTotal: 0 kB\n",
            "proc/loadavg": "0.10 0.20 0.30 1/80 123\n",
            "sys/devices/system/cpu/online": "0-3\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
        }))
        for name in ("cpu", "cpu-features", "cpu-affinity", "cpu-governor", "memory", "swap",
                     "cpu-quota", "clock-source", "load", "cache", "date", "runtime"):
            self.assertEqual((found[name]["severity"], found[name]["mend"]), ("ok", ""), name)
        self.assertIn("telemetry off", found["runtime"]["found"])
        self.assertIn("GB/s", found["memory-bandwidth"]["found"])

    def test_what_cannot_be_read_is_not_called_missing(self):
        found = self.findings(self.machine({"proc/x": ""}))
        for name in ("cpu-features", "memory", "swap", "load", "steal"):
            self.assertIn("cannot be read", found[name]["found"])
            self.assertNotIn("AVX2", found[name]["mend"])

    def test_this_machine_with_models(self):
        text = self.output_of("doctor", self.matmul())
        for part in ("Processor\n", "Measured\n", "Model\n", "latency"):
            self.assertIn(part, text)
        corrupt = self.write("corrupt.onnx", fixtures.matmul_model()[:-20])
        found = self.findings("/", corrupt)
        self.assertEqual(found["model-loads"]["severity"], "problem")

    def test_cache_that_cannot_be_written(self):
        blocked = self.write("file", "")
        code, out, _ = run("doctor", "--json", environment={"SELVAGE_CACHE": str(blocked / "cache")})
        found = {finding["id"]: finding for finding in json.loads(out)["findings"]}
        self.assertEqual((code, found["cache"]["severity"]), (0, "problem"))
        self.assertIn("SELVAGE_CACHE", found["cache"]["mend"])


class RealModelTest(Case):
    """What the demo shows, on the files that `make setup` brings."""

    def test_faces(self):
        model = DEPS / "models/blazeface-front"
        pictures = [DEPS / f"data/skimage/{name}.png" for name in ("astronaut", "coffee")]
        results = self.json_of("run", model, *pictures)["results"]
        self.assertEqual([one["summary"] for one in results], ["1 face", "nothing found"])
        box = results[0]["found"]["boxes"][0]
        # The reference implementation says 178, 82, 271, 174.
        for side, value in {"left": 178, "top": 82, "right": 271, "bottom": 174}.items():
            self.assertAlmostEqual(box[side], value, delta=3)

    def test_signs(self):
        picture = DEPS / "data/opencv/scenetext01.jpg"
        (one,) = self.json_of("run", DEPS / "models/ppocr", picture)["results"]
        texts = [region["text"] for region in one["found"]["regions"]]
        self.assertEqual(texts[:4], ["NOTICE", "DOUBLE", "PARKING", "PROHIBITED"])

    def test_speech_and_noise(self):
        model = DEPS / "models/silero-vad"
        speech = next((DEPS / "data/speech/librivox").glob("*0870.wav"))
        results = self.json_of("run", model, speech, DEPS / "data/alsa/Noise.wav")["results"]
        scores = results[0]["found"]["scores"]
        self.assertGreater(sum(score > 0.5 for score in scores) / len(scores), 0.85)
        self.assertEqual(results[1]["found"]["segments"], [])

    def test_video(self):
        video = DEPS / "data/opencv/vtest.avi"
        results = self.json_of("run", DEPS / "models/blazeface-front", video, "--limit", 3)["results"]
        self.assertEqual([one["time_s"] for one in results], [0, 0.1, 0.2])


def update():
    page = COMMANDS_PAGE.read_text()
    for command in helps():
        name = re.escape(" ".join(["selvage", *command, "--help"]))
        block = re.compile(rf"```text\n\$ {name}\n.*?```\n", re.S)
        page, count = block.subn(lambda _, text=help_block(command): text, page)
        if count != 1:
            sys.exit(f"docs/commands.md has no block for {command}")
    COMMANDS_PAGE.write_text(page)


if __name__ == "__main__":
    if "--update" in sys.argv:
        update()
    else:
        unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
