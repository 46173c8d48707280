"""The repository's own checks fire on what they forbid, and stay quiet on what they allow."""

import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parent.parent

CLEAN = {
    "CMakeLists.txt": "foreach(folder base graph infer cli)\n",
    "docs/architecture.md": "<!-- layers: tools/check_layers --update -->\n```text\n"
    "infer  -> base\nbase\n```\n",
    "src/base/a.h": "#pragma once\n\n#include <string>\n",
    "src/base/inner.h": "// How a.h does it. Internal to src/base.\n#pragma once\n",
    "src/infer/b.cc": '#include <onnxruntime_c_api.h>\n\n#include "base/a.h"\n',
}

# One violation each, on top of CLEAN, and a word of the message.
LAYER_VIOLATIONS = {
    "an include that goes up": ("src/base/a.h", '#include "infer/b.h"\n', "goes up"),
    "an include of another folder's internals": (
        "src/infer/b.h",
        '#include "base/inner.h"\n',
        "internal to src/base",
    ),
    "a library outside its folder": ("src/base/a.h", "#include <yaml-cpp/yaml.h>\n", "infer only"),
    "an unknown library": ("src/base/a.h", "#include <zmq.h>\n", "no library"),
    "a slow header in a header": ("src/base/a.h", "#include <nlohmann/json.hpp>\n", ".cc files"),
    "a test library in the product": ("src/base/a.h", "#include <gtest/gtest.h>\n", "tests only"),
    "a folder nobody listed": ("src/other/a.h", "#pragma once\n", "not in the list"),
    "a diagram that is out of date": (
        "docs/architecture.md",
        CLEAN["docs/architecture.md"].replace("infer ", "cli "),
        "--update",
    ),
    "no place for the diagram": ("docs/architecture.md", "nothing\n", "missing"),
}

LAYER_ALLOWED = {
    "a folder's own internals": ("src/base/a.cc", '#include "base/inner.h"\n'),
    "JSON in a source": ("src/base/a.cc", "#include <nlohmann/json.hpp>\n"),
    "GoogleTest in a test": ("src/base/a_test.cc", "#include <gtest/gtest.h>\n"),
    "headers of the system": ("src/base/a.cc", "#include <sys/mman.h>\n#include <unistd.h>\n"),
}

TIDY_VIOLATIONS = {
    "readability-identifier-naming": "namespace selvage { struct snake_type {}; }",
    "bugprone-unused-return-value": """
#include <expected>
std::expected<void, int> f();
void g() { f(); }""",
    "bugprone-use-after-move": """
#include <string>
#include <utility>
void take(std::string);
unsigned long f(std::string text) { take(std::move(text)); return text.size(); }""",
    "clang-analyzer-core.NullDereference": """
int f(int* p) { if (p == nullptr) { return *p; } return 0; }""",
    "concurrency-mt-unsafe": """
#include <ctime>
void f(long now) { (void)std::localtime(&now); }""",
    "cppcoreguidelines-avoid-non-const-global-variables": "int counter = 0;",
    "google-build-using-namespace": "#include <string>\nusing namespace std;",
    "google-explicit-constructor": "struct Number { Number(int value); };",
    "modernize-use-nullptr": "int* const kNothing = 0;",
    "modernize-use-override": """
struct A { virtual ~A(); virtual void f(); };
struct B : A { virtual void f(); };""",
    "performance-unnecessary-value-param": """
#include <string>
unsigned long size(std::string text) { return text.size(); }""",
}

TIDY_CLEAN = """
namespace selvage {
inline constexpr int kLimit = 3;
class Counter {
 public:
  explicit Counter(int start) : count_(start) {}
  [[nodiscard]] int next_value() { return ++count_ < kLimit ? count_ : kLimit; }

 private:
  int count_;
};
}  // namespace selvage
"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class Tree(unittest.TestCase):
    """Works on a small tree of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name, text in CLEAN.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class LayersTest(Tree):
    def check(self, *arguments):
        return run(ROOT / "tools/check_layers", "--root", self.root, *arguments)

    def test_clean_tree_passes(self):
        self.assertEqual(self.check(), (0, "infer  -> base\nbase\n"))

    def test_each_rule_fires(self):
        for name, (path, text, word) in LAYER_VIOLATIONS.items():
            with self.subTest(name):
                self.setUp()
                self.write(path, text)
                status, output = self.check()
                self.assertEqual(status, 1, output)
                self.assertIn(word, output)

    def test_what_is_allowed_passes(self):
        for name, (path, text) in LAYER_ALLOWED.items():
            with self.subTest(name):
                self.setUp()
                self.write(path, text)
                self.assertEqual(self.check()[0], 0, self.check()[1])

    def test_update_mends_the_diagram(self):
        self.write("src/graph/c.cc", '#include "base/a.h"\n')
        self.assertEqual(self.check()[0], 1)
        self.assertEqual(self.check("--update")[0], 0)
        self.assertEqual(self.check()[0], 0)


class FormatTest(Tree):
    def check(self, *arguments):
        return run(ROOT / "tools/check_format", *arguments, self.root)

    def setUp(self):
        super().setUp()
        self.write(".clang-format", (ROOT / ".clang-format").read_text())

    def test_clean_tree_passes(self):
        self.assertEqual(self.check(), (0, ""))

    def test_each_rule_fires_and_is_mended(self):
        for path, text in {"src/base/d.cc": "int  x;\n", "docs/page.md": "words \n"}.items():
            with self.subTest(path):
                self.setUp()
                self.write(path, text)
                status, output = self.check()
                self.assertEqual(status, 1)
                self.assertIn(path, output)
                self.assertEqual(self.check("--fix")[0], 0)
                self.assertEqual(self.check()[0], 0)


class TidyTest(Tree):
    def check(self, text):
        self.write("canary.cc", text + "\n")
        config = f"--config-file={ROOT}/.clang-tidy"
        canary = self.root / "canary.cc"
        return run("clang-tidy-19", "--quiet", config, canary, "--", "-std=c++23")

    def test_clean_code_passes(self):
        status, output = self.check(TIDY_CLEAN)
        self.assertEqual(status, 0, output)

    def test_each_rule_fires(self):
        for rule, text in TIDY_VIOLATIONS.items():
            with self.subTest(rule):
                status, output = self.check(text)
                self.assertNotEqual(status, 0, output)
                self.assertIn(f"[{rule},", output)


if __name__ == "__main__":
    unittest.main()
