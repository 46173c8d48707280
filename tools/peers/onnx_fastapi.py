"""An ONNX model behind FastAPI, as tutorials write it. SELVAGE_PEER_MODEL names the file."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["SELVAGE_PEER_MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Request(BaseModel):
    data: list[list[float]]


@app.post("/infer")
async def infer(request: Request):
    (y,) = session.run(None, {session.get_inputs()[0].name: np.array(request.data, np.float32)})
    return {"data": y.tolist()}
