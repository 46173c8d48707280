"""KServe's client against a started server: see tools/conformance."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


def make_request():
    value = np.arange(16, dtype=np.int32).reshape(1, 16)
    inputs = []
    for i in range(2):
        inputs.append(InferInput(f"INPUT{i}", [1, 16], "INT32"))
        inputs[-1].set_data_from_numpy(value, binary_data=i == 1)
    return value, InferRequest(model_name="add_sub", infer_inputs=inputs, request_id="k")


async def check(http, grpc_address):
    base = f"http://{http}"
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await rest.is_server_live(base) and await rest.is_server_ready(base)
    assert await rest.is_model_ready(base, "add_sub")
    value, request = make_request()
    response = await rest.infer(base, request, model_name="add_sub")
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), 2 * value)
    await rest.close()

    grpc = InferenceGRPCClient(grpc_address)
    assert await grpc.is_server_live() and await grpc.is_server_ready()
    assert await grpc.is_model_ready("add_sub")
    for one in request.inputs:
        one.set_data_from_numpy(value, binary_data=True)
    response = await grpc.infer(request)
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), 2 * value)
    await grpc.close()


asyncio.run(check(*sys.argv[1:]))
