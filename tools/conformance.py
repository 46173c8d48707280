"""Unmodified clients against a started server: see tools/conformance."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
import onnx
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import tritonclient.utils.shared_memory as shm
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

FLOAT, INT32, STRING, FLOAT16 = (
    TensorProto.FLOAT, TensorProto.INT32, TensorProto.STRING, TensorProto.FLOAT16)


# --- The repository ---------------------------------------------------------------------------------


def tensor(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def save(folder, name, nodes, inputs, outputs, config=None, version="1", files=()):
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    place = folder / name / version
    place.mkdir(parents=True)
    onnx.save(model, place / "model.onnx")
    if config:
        (folder / name / "config.pbtxt").write_text(config)
    for file, text in files:
        (folder / name / file).write_text(text)


def make_repository(folder):
    node = helper.make_node
    save(folder, "add_sub",
         [node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]), node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"])],
         [tensor("INPUT0", INT32, ["N", 16]), tensor("INPUT1", INT32, ["N", 16])],
         [tensor("OUTPUT0", INT32, ["N", 16]), tensor("OUTPUT1", INT32, ["N", 16])],
         'platform: "onnxruntime_onnx"\nmax_batch_size: 8\n'
         'input [{name: "INPUT0" data_type: TYPE_INT32 dims: [16]},\n'
         '       {name: "INPUT1" data_type: TYPE_INT32 dims: [16]}]\n'
         'output [{name: "OUTPUT0" data_type: TYPE_INT32 dims: [16]},\n'
         '        {name: "OUTPUT1" data_type: TYPE_INT32 dims: [16]}]\n'
         "dynamic_batching {}\n")
    for name, kind in (("identity_fp32", FLOAT), ("identity_bytes", STRING), ("identity_fp16", FLOAT16)):
        save(folder, name, [node("Identity", ["IN"], ["OUT"])],
             [tensor("IN", kind, ["N"])], [tensor("OUT", kind, ["N"])])
    save(folder, "classes", [node("Identity", ["IN"], ["OUT"])],
         [tensor("IN", FLOAT, ["N", 3])], [tensor("OUT", FLOAT, ["N", 3])],
         'platform: "onnxruntime_onnx"\nmax_batch_size: 4\n'
         'input [{name: "IN" data_type: TYPE_FP32 dims: [3]}]\n'
         'output [{name: "OUT" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt"}]\n',
         files=[("labels.txt", "cat\ndog\nbird\n")])
    # A running sum per sequence: the state is kept by the server.
    save(folder, "accumulate",
         [node("Not", ["START"], ["going_on"]), node("Cast", ["going_on"], ["keep"], to=FLOAT),
          node("Mul", ["state_in", "keep"], ["kept"]),
          node("Add", ["IN", "kept"], ["OUT"]), node("Identity", ["OUT"], ["state_out"])],
         [tensor("IN", FLOAT, ["N", 1]), tensor("START", TensorProto.BOOL, ["N", 1]),
          tensor("state_in", FLOAT, ["N", 1])],
         [tensor("OUT", FLOAT, ["N", 1]), tensor("state_out", FLOAT, ["N", 1])],
         'platform: "onnxruntime_onnx"\nmax_batch_size: 4\n'
         'input [{name: "IN" data_type: TYPE_FP32 dims: [1]}]\n'
         'output [{name: "OUT" data_type: TYPE_FP32 dims: [1]}]\n'
         "sequence_batching {\n"
         '  control_input [{name: "START" control [{kind: CONTROL_SEQUENCE_START bool_false_true: [false, true]}]}]\n'
         '  state [{input_name: "state_in" output_name: "state_out" data_type: TYPE_FP32 dims: [1]}]\n'
         "  direct {}\n}\n")


class Server:
    """`selvage serve` on free ports of this machine."""

    def __init__(self, program, folder, *options):
        self.process = subprocess.Popen(
            [program, "serve", "--models", str(folder), "--http-port", "0", "--grpc-port", "0",
             *options], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if not line or line[0] != "ready:":
            raise SystemExit(f"the server did not start: {line}")
        self.http = line[1].split("//")[1]
        self.grpc = line[2].split("//")[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) in (0, 130, 143), self.process.returncode


# --- tritonclient: one body for both protocols ------------------------------------------------------


def expect_error(call, text):
    try:
        call()
    except InferenceServerException as error:
        assert text in str(error), error
        return
    raise AssertionError(f"no error: {text}")


def add_sub_inputs(triton, batch=2, binary=None):
    values = [np.arange(16 * batch, dtype=np.int32).reshape(batch, 16), np.ones((batch, 16), np.int32)]
    inputs = []
    for i, value in enumerate(values):
        one = triton.InferInput(f"INPUT{i}", value.shape, "INT32")
        if binary is None:
            one.set_data_from_numpy(value)
        else:
            one.set_data_from_numpy(value, binary_data=binary)
        inputs.append(one)
    return values, inputs


def check_health_and_metadata(client, as_dict):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("add_sub") and client.is_model_ready("add_sub", "1")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("add_sub", "7")
    server = as_dict(client.get_server_metadata())
    assert server["name"] == "selvage" and "binary_tensor_data" in server["extensions"]
    model = as_dict(client.get_model_metadata("add_sub"))
    assert model["platform"] == "onnxruntime_onnx" and model["versions"] == ["1"]
    assert [int(d) for d in model["inputs"][0]["shape"]] == [-1, 16]
    config = as_dict(client.get_model_config("add_sub"))
    config = config.get("config", config)
    assert config["name"] == "add_sub" and config["max_batch_size"] == 8
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert "dynamic_batching" in config
    expect_error(lambda: client.get_model_metadata("nobody"), "nobody")


def check_infer(triton, client):
    values, inputs = add_sub_inputs(triton)
    result = client.infer("add_sub", inputs, request_id="mine")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values[0] + values[1])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), values[0] - values[1])
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "mine"
    outputs = [triton.InferRequestedOutput("OUTPUT1")]
    result = client.infer("add_sub", inputs, outputs=outputs, priority=1, timeout=10_000_000)
    assert result.as_numpy("OUTPUT0") is None
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), values[0] - values[1])
    expect_error(lambda: client.infer("nobody", inputs), "nobody")
    expect_error(lambda: client.infer("add_sub", inputs, model_version="7"), "7")
    expect_error(lambda: client.infer("add_sub", inputs[:1]), "INPUT1")
    wrong = triton.InferInput("INPUT0", [2, 15], "INT32")
    wrong.set_data_from_numpy(np.zeros((2, 15), np.int32))
    expect_error(lambda: client.infer("add_sub", [wrong, inputs[1]]), "INPUT0")


def check_types(triton, client):
    for name, value, kind in (
            ("identity_fp32", np.array([1.5, np.nan, np.inf, -0.0], np.float32), "FP32"),
            ("identity_fp16", np.array([1.5, 2], np.float16), "FP16"),
            ("identity_bytes", np.array([b"", b"a\x00b", "é".encode()], object), "BYTES")):
        one = triton.InferInput("IN", value.shape, kind)
        one.set_data_from_numpy(value)
        np.testing.assert_array_equal(client.infer(name, [one]).as_numpy("OUT"), value)


def check_classification(triton, client):
    value = np.array([[0.1, 0.7, 0.2], [9, 8, 7]], np.float32)
    one = triton.InferInput("IN", value.shape, "FP32")
    one.set_data_from_numpy(value)
    outputs = [triton.InferRequestedOutput("OUT", class_count=2)]
    found = client.infer("classes", [one], outputs=outputs).as_numpy("OUT")
    texts = [[text.decode() for text in row] for row in found]
    assert [[t.split(":")[1:] for t in row] for row in texts] == [
        [["1", "dog"], ["2", "bird"]], [["0", "cat"], ["1", "dog"]]], texts


def check_sequences(triton, client):
    def step(value, sequence, start=False, end=False):
        one = triton.InferInput("IN", [1, 1], "FP32")
        one.set_data_from_numpy(np.array([[value]], np.float32))
        result = client.infer("accumulate", [one], sequence_id=sequence, sequence_start=start,
                              sequence_end=end)
        return float(result.as_numpy("OUT")[0, 0])

    for a, b in ((7, 8), ("left", "right")):
        assert step(1, a, start=True) == 1 and step(10, b, start=True) == 10
        assert step(2, a) == 3 and step(20, b) == 30
        assert step(3, a, end=True) == 6 and step(30, b, end=True) == 60
        assert step(5, a, start=True, end=True) == 5


def check_shared_memory(triton, client, as_list):
    client.unregister_system_shared_memory()
    value = np.arange(16, dtype=np.int32).reshape(1, 16)
    region = shm.create_shared_memory_region("both", "/selvage_conformance", 4 * value.nbytes)
    try:
        shm.set_shared_memory_region(region, [value, value])
        client.register_system_shared_memory("both", "/selvage_conformance", 4 * value.nbytes)
        assert "both" in as_list(client.get_system_shared_memory_status())
        inputs, outputs = [], []
        for i in range(2):
            inputs.append(triton.InferInput(f"INPUT{i}", value.shape, "INT32"))
            inputs[-1].set_shared_memory("both", value.nbytes, offset=i * value.nbytes)
            outputs.append(triton.InferRequestedOutput(f"OUTPUT{i}"))
            outputs[-1].set_shared_memory("both", value.nbytes, offset=(2 + i) * value.nbytes)
        client.infer("add_sub", inputs, outputs=outputs)
        found = shm.get_contents_as_numpy(region, np.int32, (4, 16))
        np.testing.assert_array_equal(found[2:3], 2 * value)
        np.testing.assert_array_equal(found[3:4], 0 * value)
        outputs[0].set_shared_memory("both", value.nbytes - 4)
        expect_error(lambda: client.infer("add_sub", inputs, outputs=outputs), "OUTPUT0")
        expect_error(lambda: client.register_system_shared_memory("both", "/selvage_conformance", 8), "both")
        client.unregister_system_shared_memory("both")
        assert "both" not in as_list(client.get_system_shared_memory_status())
    finally:
        shm.destroy_shared_memory_region(region)


def check_statistics(client, as_dict):
    stats = as_dict(client.get_inference_statistics("add_sub"))["model_stats"]
    assert [(s["name"], s["version"]) for s in stats] == [("add_sub", "1")]
    assert int(stats[0]["inference_count"]) >= int(stats[0]["execution_count"]) > 0
    assert int(stats[0]["inference_stats"]["success"]["count"]) > 0
    assert int(stats[0]["inference_stats"]["compute_infer"]["ns"]) > 0
    everything = as_dict(client.get_inference_statistics())["model_stats"]
    assert {s["name"] for s in everything} >= {"add_sub", "classes", "identity_fp32"}


def check_repository(client, as_list, folder):
    assert {"add_sub", "accumulate"} <= set(as_list(client.get_model_repository_index()))
    client.unload_model("identity_fp16")
    deadline = time.monotonic() + 10
    while client.is_model_ready("identity_fp16"):
        assert time.monotonic() < deadline
    client.load_model("identity_fp16")
    assert client.is_model_ready("identity_fp16")
    content = (folder / "identity_fp32/1/model.onnx").read_bytes()
    config = json.dumps({"platform": "onnxruntime_onnx", "max_batch_size": 0})
    client.load_model("brought", config=config, files={"file:1/model.onnx": content})
    assert client.is_model_ready("brought")
    client.unload_model("brought")
    expect_error(lambda: client.load_model("nobody"), "nobody")


def check_triton_http(server, folder):
    client = triton_http.InferenceServerClient(server.http, concurrency=4)
    same = lambda x: x
    check_health_and_metadata(client, same)
    check_infer(triton_http, client)
    for binary in (True, False):
        values, inputs = add_sub_inputs(triton_http, binary=binary)
        outputs = [triton_http.InferRequestedOutput("OUTPUT0", binary_data=not binary)]
        for packed in (None, "gzip", "deflate"):
            result = client.infer("add_sub", inputs, outputs=outputs, request_compression_algorithm=packed,
                                  response_compression_algorithm=packed)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values[0] + values[1])
    calls = [client.async_infer("add_sub", inputs) for _ in range(32)]
    for call in calls:
        np.testing.assert_array_equal(call.get_result().as_numpy("OUTPUT0"), values[0] + values[1])
    check_types(triton_http, client)
    check_classification(triton_http, client)
    check_sequences(triton_http, client)
    check_shared_memory(triton_http, client, lambda regions: [r["name"] for r in regions])
    check_statistics(client, same)
    check_repository(client, lambda models: [m["name"] for m in models], folder)


def check_triton_grpc(server, folder):
    from google.protobuf.json_format import MessageToDict

    client = triton_grpc.InferenceServerClient(server.grpc)
    as_dict = lambda m: MessageToDict(m, preserving_proto_field_name=True)
    check_health_and_metadata(client, as_dict)
    check_infer(triton_grpc, client)
    check_types(triton_grpc, client)
    check_classification(triton_grpc, client)
    check_sequences(triton_grpc, client)
    check_shared_memory(triton_grpc, client, lambda m: list(m.regions))
    check_statistics(client, as_dict)
    check_repository(client, lambda m: [model.name for model in m.models], folder)
    check_stream(client)
    for packed in ("gzip", "deflate"):
        values, inputs = add_sub_inputs(triton_grpc)
        result = client.infer("add_sub", inputs, compression_algorithm=packed)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values[0] + values[1])


def check_stream(client):
    answers = []
    client.start_stream(callback=lambda result, error: answers.append((result, error)))
    for i in range(100):
        one = triton_grpc.InferInput("IN", [1, 1], "FP32")
        one.set_data_from_numpy(np.array([[1]], np.float32))
        client.async_stream_infer("accumulate", [one], sequence_id=99, sequence_start=i == 0,
                                  sequence_end=i == 99, request_id=str(i))
    client.async_stream_infer("nobody", [one], request_id="wrong")
    client.stop_stream()
    sums = {r.get_response().id: float(r.as_numpy("OUT")[0, 0]) for r, error in answers if not error}
    assert sums == {str(i): i + 1.0 for i in range(100)}, sums
    assert [str(error) for _, error in answers if error and "nobody" in str(error)], answers


# --- KServe -----------------------------------------------------------------------------------------


def check_kserve(server, root):
    # In a process of its own: both clients register the protocol's messages under the same names.
    subprocess.run([sys.executable, root / "tools/conformance_kserve.py", server.http, server.grpc],
                   check=True)


# --- OpenAPI ----------------------------------------------------------------------------------------


def check_openapi(server, root):
    from openapi_core import OpenAPI
    from openapi_core.testing import MockRequest, MockResponse

    api = OpenAPI.from_file_path(str(root / "docs/openapi.yaml"))
    base = f"http://{server.http}"
    infer = {"id": "1", "inputs": [
        {"name": f"INPUT{i}", "shape": [1, 16], "datatype": "INT32", "data": list(range(16))}
        for i in range(2)]}
    model = "/v2/models/add_sub"
    calls = [("get", path, None) for path in (
        "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats", model,
        f"{model}/ready", f"{model}/config", f"{model}/stats", f"{model}/versions/1",
        f"{model}/versions/1/ready", f"{model}/versions/1/config", f"{model}/versions/1/stats",
        "/v2/systemsharedmemory/status", "/v2/models/nobody", "/metrics", "/")]
    calls += [("post", f"{model}/infer", infer), ("post", f"{model}/versions/1/infer", infer),
              ("post", f"{model}/infer", {"inputs": [{"name": "INPUT0"}]}),
              ("post", "/v2/repository/index", {"ready": True}),
              ("post", "/v2/repository/models/classes/load", {}),
              ("post", "/v2/repository/models/classes/unload", {"parameters": {"unload_dependents": False}}),
              ("post", "/v2/systemsharedmemory/unregister", {}),
              ("post", "/v2/systemsharedmemory/region/r/register", {"key": "/nobody", "offset": 0, "byte_size": 1})]
    for method, path, body in calls:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(base + path, data=data, method=method.upper(),
                                         headers={"Content-Type": "application/json"})
        try:
            reply = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            reply = error
        answer = MockResponse(reply.read(), status_code=reply.status,
                              content_type=reply.headers["Content-Type"].split(";")[0])
        asked = MockRequest("http://localhost:8000", method, path, data=data, content_type="application/json")
        try:
            api.validate_response(asked, answer)
        except Exception as error:
            raise AssertionError(f"{method} {path} -> {reply.status}: {error!r} {error.__cause__!r}") from error
    print(f"  {len(calls)} answers are as docs/openapi.yaml says")


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        make_repository(folder)
        names = ",".join(sorted(os.listdir(folder)))
        options = ["--allow-shared-memory", "--model-control", "explicit"]
        for name in names.split(","):
            options += ["--load-model", name]
        with Server(program, folder, *options) as server:
            for name, check in (
                    ("tritonclient over HTTP", lambda: check_triton_http(server, folder)),
                    ("tritonclient over gRPC", lambda: check_triton_grpc(server, folder)),
                    ("kserve over HTTP and gRPC", lambda: check_kserve(server, root)),
                    ("OpenAPI", lambda: check_openapi(server, root))):
                print(f"conformance: {name}", flush=True)
                check()
    print("conformance: all of it")


if __name__ == "__main__":
    main()
