"""A model in another version of the standard operator set."""

from __future__ import annotations

from onnx import defs, helper, version_converter

from redir.backends.onnx import to_proto
from redir.check.outputs import verify
from redir.errors import BadInput, Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph
from redir.ops import OPSET
from redir.runtime.open_sizes import Shapes


def in_opset(graph: Graph, opset: int, input_shapes: Shapes | None = None) -> Graph:
    """``graph`` in version ``opset``, by onnx's converter, if its outputs are shown to be the same.

    Notes of nodes and tensors are lost.

    Raises:
        BadInput: there is no such version.
        Unsupported: the converter fails, or the outputs are others or cannot be compared.
    """
    newest = defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise BadInput(f"operator set {opset}: the installed onnx has 1 to {newest}")
    if graph.opset.get("", OPSET) == opset:
        return graph
    after = _converted(graph, opset)
    found = verify(graph, after, input_shapes=input_shapes)
    if found.verdict != "pass":
        why = found.reason or "the outputs do not depend on the inputs"
        raise Unsupported(
            f"operator set {opset}: the check of the outputs is {found.verdict}: {why}"
        )
    return after


def _converted(graph: Graph, opset: int) -> Graph:
    if any(node.bodies for node in graph.nodes):
        raise Unsupported(f"operator set {opset}: onnx converts no bodies of control flow")
    try:
        model = version_converter.convert_version(to_proto(graph), opset)
    except Exception as error:  # of protobuf or of onnx, which has no class for it
        line = str(error).strip().partition("\n")[0]
        raise Unsupported(f"operator set {opset}: onnx cannot convert the model: {line}") from error
    oldest = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = max(model.ir_version, oldest)
    kept = [info for info in model.graph.input if info.name in graph.inputs]
    del model.graph.input[:]  # of old files they have the initializers, too
    model.graph.input.extend(kept)
    return from_proto(model)
