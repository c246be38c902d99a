# SPDX-License-Identifier: GPL-3.0-or-later
"""A model file as ONNX, for the slots of one job: to_onnx.py JOB OUT.

A script, so that what PyTorch's exporter prints and holds is gone with it. Convolutions become
float32: ONNX Runtime has no others on a CPU, and OpenVINO chooses its precision itself.
"""

import json
import sys

import torch
from job import Job, traced


def exportable(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The same with operators that the exporter knows, where tracing leaves others."""
    aten = torch.ops.aten
    for node in module.graph.nodes:
        if node.target is aten._unsafe_view.default:
            node.target = aten.reshape.default
        elif node.target is aten.avg_pool2d.default and len(node.meta["tensor_meta"].shape) == 3:
            with module.graph.inserting_before(node):  # ONNX has no image without a batch
                batch = module.graph.call_function(aten.unsqueeze.default, (node.args[0], 0))
            node.args = (batch, *node.args[1:])
            with module.graph.inserting_after(node):
                image = module.graph.call_function(aten.squeeze.dim, (node, 0))
            node.replace_all_uses_with(image, lambda user, image=image: user is not image)
        elif node.target is aten._softmax.default:
            node.target, node.args = aten.softmax.int, node.args[:2]
        elif node.target is aten._to_copy.default:
            dtype = node.kwargs.get("dtype")
            node.target = aten.to.dtype if dtype else aten.clone.default
            node.args, node.kwargs = (node.args[0], *([dtype] if dtype else [])), {}
    module.recompile()
    return module


def main(text: str, out: str) -> None:
    job = Job(**json.loads(text))
    slots = tuple(map(torch.from_numpy, job.slots(job.batch)[:2]))
    torch.onnx.export(
        exportable(traced(job, torch.float32)),
        slots,
        out,
        input_names=["y", "p"],
        output_names=["llr"],
        opset_version=18,  # the first with operators on bits
        dynamo=False,  # the other exporter fails on more files
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
