"""From a graph to steps of PyTorch: one operator after the other, in text with marks.

What each operator becomes is said by its entry in a table of functions ``emit(site)``; a ``Site``
is a node with what the text of its operands, its layers and its tensors is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from redir import ops
from redir.backends.torch.emit.flow import Flow
from redir.backends.torch.emit.scene import Scene
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.errors import Unsupported
from redir.ir import Graph, Node
from redir.ops import schema


def emit(graph: Graph, table: Mapping[str, Emit]) -> Flow:
    """The steps of ``graph`` and everything they use.

    Raises:
        Unsupported: an operator has no form in PyTorch; the message names it.
    """
    rule = partial(_emitted, table)
    flow = _run(graph, Flow(rule))
    inside = any(flow.clear(path[:-1]) != path[:-1] for path in flow.tensors)
    return _run(graph, Flow(rule, closed=frozenset(flow.layers))) if inside else flow


def _run(graph: Graph, flow: Flow) -> Flow:
    scene = Scene(flow, graph)
    flow.taken.update(p for p in scene.counts if p)
    scene.run()
    return flow


def _emitted(table: Mapping[str, Emit], scene: Scene, node: Node) -> Result:
    """What a node becomes by its entry, if it is as the entry knows it."""
    domain = f"{node.op.domain}." if node.op.domain else ""
    family = "aten.*" if domain.startswith(("aten.", "torch.")) else ""
    found = table.get(domain + node.op.name, table.get(family))
    if found is None:
        raise Unsupported(f"{node}: there is no PyTorch form of this operator")
    odd = None if domain else ops.beyond(node)
    if odd is not None:
        raise Unsupported(f"{node}: redir does not know {odd} of this operator")
    odd = None if family else schema.odd_attribute(node)
    if odd is not None:
        raise Unsupported(f"{node}: attribute {odd!r} is not as the operator has it")
    return found(Site(scene, node))
