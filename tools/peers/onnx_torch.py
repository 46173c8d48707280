"""Runs an ONNX model with PyTorch, so that PyTorch can train it: the second opinion of the golden
values and of the benchmark. Knows the operators of small networks, forward only; PyTorch's own
autograd differentiates."""

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper


class Model(torch.nn.Module):
    """`parameters()` are the floating-point initialisers of more than one element; running
    statistics are buffers. In training mode BatchNormalization normalises by the batch."""

    def __init__(self, model):
        super().__init__()
        graph = model.graph
        self.inputs = [i.name for i in graph.input if i.name not in {t.name for t in graph.initializer}]
        self.outputs = [o.name for o in graph.output]
        self.constants, self.weights = {}, {}
        statistics = {
            name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]
        }
        for tensor in graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if value.is_floating_point() and tensor.name not in statistics and value.numel() > 1:
                value = torch.nn.Parameter(value)
                self.register_parameter(tensor.name.replace(".", "/"), value)
                self.weights[tensor.name] = value
            self.constants[tensor.name] = value
        self.steps = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self.constants[node.output[0]] = torch.from_numpy(
                    numpy_helper.to_array(attributes["value"]).copy()
                )
                continue
            self.steps.append((getattr(self, "op_" + node.op_type), attributes, list(node.input), list(node.output)))

    def forward(self, *values):
        known = dict(self.constants)
        known.update(zip(self.inputs, values))
        for run, attributes, inputs, outputs in self.steps:
            result = run(attributes, *(known[name] if name else None for name in inputs))
            if not isinstance(result, (tuple, list)):
                result = (result,)
            known.update(zip(outputs, result))
        return [known[name] for name in self.outputs]

    @staticmethod
    def padded(x, pads, value=0.0):
        """ONNX names the beginnings of all axes, then the ends; PyTorch pairs from the last axis."""
        n = len(pads) // 2
        if all(pads[i] == pads[i + n] for i in range(n)):
            return x, list(pads[:n])
        pairs = [p for i in reversed(range(n)) for p in (pads[i], pads[i + n])]
        return F.pad(x, pairs, value=value), [0] * n

    def op_Conv(self, a, x, w, b=None):
        n = w.dim() - 2
        x, padding = self.padded(x, a.get("pads", [0] * 2 * n))
        run = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
        return run(x, w, b, a.get("strides", [1] * n), padding, a.get("dilations", [1] * n), a.get("group", 1))

    def op_MaxPool(self, a, x):
        n = len(a["kernel_shape"])
        x, padding = self.padded(x, a.get("pads", [0] * 2 * n), float("-inf"))
        run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
        return run(x, a["kernel_shape"], a.get("strides", [1] * n), padding)

    def op_AveragePool(self, a, x):
        n = len(a["kernel_shape"])
        x, padding = self.padded(x, a.get("pads", [0] * 2 * n))
        run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
        return run(
            x, a["kernel_shape"], a.get("strides", [1] * n), padding, bool(a.get("ceil_mode", 0)),
            bool(a.get("count_include_pad", 0)),
        )

    def op_GlobalAveragePool(self, a, x):
        return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)

    def op_BatchNormalization(self, a, x, scale, bias, mean, var):
        return F.batch_norm(
            x, mean, var, scale, bias, self.training, 1 - a.get("momentum", 0.9), a.get("epsilon", 1e-5)
        )

    def op_LayerNormalization(self, a, x, scale, bias=None):
        shape = x.shape[a.get("axis", -1) :] if a.get("axis", -1) < 0 else x.shape[a["axis"] :]
        return F.layer_norm(x, shape, scale, bias, a.get("epsilon", 1e-5))

    def op_Gemm(self, a, x, w, b=None):
        if not a.get("transA", 0) and a.get("transB", 0) and a.get("alpha", 1) == a.get("beta", 1) == 1:
            return F.linear(x, w, b)
        y = (x.t() if a.get("transA", 0) else x) @ (w.t() if a.get("transB", 0) else w) * a.get("alpha", 1.0)
        return y if b is None else y + b * a.get("beta", 1.0)

    def op_GRU(self, a, x, w, r, b, lengths=None, h=None):
        """One direction, reset after the product: PyTorch's own formula, gates in ONNX's order."""
        assert a.get("linear_before_reset", 0) == 1 and w.shape[0] == 1
        size = a["hidden_size"]
        h = x.new_zeros(x.shape[1], size) if h is None else h[0]
        wb, rb = b[0].split(3 * size)
        rows = []
        for step in x @ w[0].t() + wb:
            xz, xr, xh = step.split(size, 1)
            hz, hr, hh = (h @ r[0].t() + rb).split(size, 1)
            z, gate = torch.sigmoid(xz + hz), torch.sigmoid(xr + hr)
            h = (1 - z) * torch.tanh(xh + gate * hh) + z * h
            rows.append(h)
        return torch.stack(rows)[:, None], h[None]

    def op_MatMul(self, a, x, y):
        return x @ y

    def op_Add(self, a, x, y):
        return x + y

    def op_Sub(self, a, x, y):
        return x - y

    def op_Mul(self, a, x, y):
        return x * y

    def op_Div(self, a, x, y):
        return x / y

    def op_Relu(self, a, x):
        return F.relu(x)

    def op_Clip(self, a, x, low=None, high=None):
        low = a.get("min") if low is None else low.item()
        high = a.get("max") if high is None else high.item()
        return torch.clamp(x, low, high)

    def op_Pow(self, a, x, y):
        return x**y

    def op_Sqrt(self, a, x):
        return x.sqrt()

    def op_HardSigmoid(self, a, x):
        return torch.clamp(x * a.get("alpha", 0.2) + a.get("beta", 0.5), 0, 1)

    def op_ReduceMean(self, a, x):
        return x.mean(dim=a["axes"], keepdim=bool(a.get("keepdims", 1)))

    def op_Cast(self, a, x):
        return x.to({1: torch.float32, 6: torch.int32, 7: torch.int64}[a["to"]])

    def op_ConstantOfShape(self, a, shape):
        value = torch.from_numpy(numpy_helper.to_array(a["value"]).copy()) if "value" in a else torch.zeros(1)
        return value.expand(shape.tolist())

    def op_Sigmoid(self, a, x):
        return torch.sigmoid(x)

    def op_Tanh(self, a, x):
        return torch.tanh(x)

    def op_Erf(self, a, x):
        return torch.erf(x)

    def op_HardSwish(self, a, x):
        return F.hardswish(x)

    def op_PRelu(self, a, x, slope):
        return torch.where(x > 0, x, x * slope)

    def op_Softmax(self, a, x):
        return torch.softmax(x, a.get("axis", -1))

    def op_Flatten(self, a, x):
        axis = a.get("axis", 1)
        return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)

    def op_Reshape(self, a, x, shape):
        return x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(shape.tolist())])

    def op_Transpose(self, a, x):
        return x.permute(a["perm"])

    def op_Squeeze(self, a, x, axes=None):
        axes = a["axes"] if axes is None else axes.tolist()
        for axis in sorted((i % x.dim() for i in axes), reverse=True):
            x = x.squeeze(axis)
        return x

    def op_Unsqueeze(self, a, x, axes):
        for axis in axes.tolist():
            x = x.unsqueeze(axis)
        return x

    def op_Concat(self, a, *parts):
        return torch.cat(parts, a["axis"])

    def op_Gather(self, a, x, index):
        axis = a.get("axis", 0)
        if index.dim() == 0:
            return x.select(axis, int(index))
        return x.index_select(axis, index.flatten()).reshape(
            x.shape[:axis] + index.shape + x.shape[axis + 1 :]
        )

    def op_Slice(self, a, x, starts=None, ends=None, axes=None, steps=None):
        if starts is None:  # Before operator set 10 they were attributes.
            starts, ends = torch.tensor(a["starts"]), torch.tensor(a["ends"])
            axes = torch.tensor(a["axes"]) if "axes" in a else None
        axes = range(len(starts)) if axes is None else axes.tolist()
        steps = [1] * len(starts) if steps is None else steps.tolist()
        cut = [slice(None)] * x.dim()
        for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps):
            cut[axis] = slice(start, end, step)
        return x[tuple(cut)]

    def op_Shape(self, a, x):
        return torch.tensor(x.shape)

    def op_Expand(self, a, x, shape):
        return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))

    def op_Identity(self, a, x):
        return x

    def op_Pad(self, a, x, pads, value=None):
        pads = pads.tolist()
        n = len(pads) // 2
        pairs = [p for i in reversed(range(n)) for p in (pads[i], pads[i + n])]
        return F.pad(x, pairs, value=0.0 if value is None else value.item())

    def op_ReduceMean(self, a, x, axes=None):
        dims = axes.tolist() if axes is not None else a.get("axes", list(range(x.dim())))
        return x.mean(dim=dims, keepdim=bool(a.get("keepdims", 1)))


def load(path):
    return Model(onnx.load(str(path)))
