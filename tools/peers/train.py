#!/usr/bin/env python3
"""PyTorch's side of bench/train_bench: the same model file, batch, optimiser and line of output.

    apt install python3-torch python3-onnx libopenblas0-pthread
    selvage new lenet5 lenet5.onnx --input 1x28x28
    /usr/bin/python3 tools/peers/train.py --threads 1 lenet5.onnx

Debian's PyTorch is linked to whatever `libblas.so.3` is; its reference BLAS makes linear layers very
slow, so the script wants OpenBLAS and says which library it found. One process measures one model at one
thread count, since PyTorch's pools keep the size that they were made with.
"""

import argparse
import os
import resource
import time
from pathlib import Path

START = time.perf_counter()


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def blas():
    found = {Path(line.split()[-1]).name for line in Path("/proc/self/maps").read_text().splitlines() if "blas" in line}
    return ", ".join(sorted(found)) or "none"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)

    import onnx
    import torch
    import torch.nn.functional as F

    import onnx_torch

    torch.set_num_threads(arguments.threads)
    proto = onnx.load(str(arguments.model))
    model = onnx_torch.Model(proto)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    dims = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    x = torch.rand([arguments.batch, *dims[1:]])
    gives_back = arguments.model.stem == "autoencoder"
    target = x if gives_back else torch.randint(0, 10, [arguments.batch])

    def step():
        y = model(x)[0]
        loss = F.mse_loss(y, target) if gives_back else F.cross_entropy(y, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    step()
    first = (time.perf_counter() - START) * 1000
    times, begin, cpu = [], time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < arguments.seconds or len(times) < 5:
        before = time.perf_counter()
        step()
        times.append((time.perf_counter() - before) * 1000)
    cpu = (time.process_time() - cpu) * 1000 / len(times)
    times.sort()
    print(
        f"{arguments.model.stem:16} threads {arguments.threads}  step {times[len(times) // 2]:8.3f} ms "
        f"(p10 {times[len(times) // 10]:8.3f}, p90 {times[len(times) * 9 // 10]:8.3f}, CPU {cpu:8.3f})  "
        f"first step {first:6.0f} ms  resident {resident_mb():4.0f} MB, peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:4.0f} MB  torch {torch.__version__}, {blas()}"
    )


main()
