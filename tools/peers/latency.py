#!/usr/bin/env python3
"""Latency of models beside the first of them, one thread, in turns of 50 runs, so that a machine whose
speed drifts drifts for all: the least of three first deciles, what a run takes that nothing
interrupts.

    .deps/peers/bin/python tools/peers/latency.py BATCH MODEL MODEL...
"""

import sys
import time

import numpy as np
import onnxruntime

REPEATS, SECONDS = 3, 3
LEAD_IN, RUNS = 10, 50  # Of a turn; the first are not timed: caches hold the other model.


def bind(path, batch):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    random = np.random.default_rng(0)
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else batch for size in value.shape]
        binding.bind_cpu_input(value.name, random.random(shape, dtype=np.float32))
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return session, binding


def deciles(bound):
    times = [[] for _ in bound]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for (session, binding), own in zip(bound, times):
            for _ in range(LEAD_IN):
                session.run_with_iobinding(binding)
            for _ in range(RUNS):
                begin = time.perf_counter()
                session.run_with_iobinding(binding)
                own.append(time.perf_counter() - begin)
    return [np.quantile(own, 0.1) for own in times]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    paths = sys.argv[2:]
    bound = [bind(path, int(sys.argv[1])) for path in paths]
    best = [min(column) for column in zip(*(deciles(bound) for _ in range(REPEATS)))]
    for path, seconds in zip(paths, best):
        print(f"{path:<44} {1e6 * seconds:10.1f} us {seconds / best[0]:7.3f}x")


if __name__ == "__main__":
    main()
