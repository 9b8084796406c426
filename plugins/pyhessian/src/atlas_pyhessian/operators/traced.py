"""A product as a straight list of tensor operations, split into what the vector changes and what it does not.

The second backward of a loss is traced down to the operations of ATen, over the graph of the first gradient
as it was built, so that the model's own code may do what it likes. Everything that does not depend on the
vector is then evaluated once and kept; what remains is a program without autograd, which can be compiled
and captured. It is reverse over reverse, so that it exists wherever a double backward does; forward-mode
derivatives, which many activations lack, are not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Interpreter, Node

__all__ = ["Untraceable", "align_products", "trace_product"]


class Untraceable(Exception):
    """The product writes into a tensor in a way that cannot be told apart from a new tensor."""


def _schema(node: Node) -> torch.FunctionSchema | None:
    return getattr(node.target, "_schema", None) if node.op == "call_function" else None


def _writes(node: Node) -> bool:
    schema = _schema(node)
    return schema is not None and schema.is_mutable


def _viewed(node: Node) -> Node | None:
    """Return the node whose memory a node's result shares, if it is a view."""
    schema = _schema(node)
    if schema is None or _writes(node):
        return None
    first = schema.arguments[0] if schema.arguments else None
    if first is None or first.alias_info is None or not isinstance(node.args[0], Node):
        return None
    return node.args[0]


def _replace_writes(graph: Graph, varying: set[Node]) -> None:
    """Let operations in place that depend on the vector make new tensors instead.

    Autograd adds gradients in place only where nothing else holds them; that this is so is checked.

    Raises:
        Untraceable: Memory that is written is read again under another name.
    """
    position = {node: number for number, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node not in varying or not _writes(node):
            continue
        name = str(node.target).split(".")[1]
        functional = getattr(torch.ops.aten, name.removesuffix("_"), None)
        if functional is None or not name.endswith("_"):
            raise Untraceable(f"{node.target} writes into its argument")
        written: Node | None = node.args[0]
        while written is not None:
            if any(position[user] > position[node] for user in written.users):
                raise Untraceable(f"what {node.target} writes into is read again")
            written = _viewed(written)
        node.target = getattr(functional, str(node.target).split(".")[2])


def _varying(graph: Graph) -> set[Node]:
    """Return the nodes that depend on the vector."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


class _Keeping(Interpreter):
    """Evaluates the nodes that do not vary, dropping each value after its last use but for those kept."""

    def __init__(self, module: GraphModule, varying: set[Node], kept: set[Node]) -> None:
        super().__init__(module, garbage_collect_values=True)
        self.values: dict[Node, Any] = {}
        self._varying, self._kept = varying, kept

    def run_node(self, n: Node) -> Any:
        """Evaluate one node, or leave it out."""
        if n in self._varying:
            return None
        value = super().run_node(n)
        if n in self._kept:
            self.values[n] = value
        return value


def trace_product(product: Callable[[torch.Tensor], torch.Tensor], vector: torch.Tensor) -> GraphModule:
    """Return a program that computes what `product` does, without autograd and without the constant part.

    Args:
        product: A linear function of a vector `[n]` to a vector `[n]`, by autograd inside; parameters and
            inputs that it closes over become constants.
        vector: Any vector, such as the program will be given.

    Returns:
        A `torch.fx.GraphModule` with one input, which holds its constants as attributes.

    Raises:
        Untraceable: It writes into tensors in a way that the trace cannot follow.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(lambda given: product(given), tracing_mode="real")(vector)  # it counts a method's self
    graph = traced.graph
    graph.eliminate_dead_code()
    varying = _varying(graph)
    _replace_writes(graph, varying)
    kept = {s for node in varying for s in node.all_input_nodes if s not in varying}
    keeping = _Keeping(traced, varying, kept)
    with torch.no_grad():
        keeping.run(vector)
    remainder = Graph()
    constants: dict[str, torch.Tensor] = {}
    known: dict[Node, Any] = {}
    for node in graph.nodes:
        if node in varying:
            known[node] = remainder.node_copy(node, lambda source: known[source])
        elif node in kept:
            value = keeping.values.pop(node)
            if isinstance(value, torch.Tensor):
                name = f"constant_{len(constants)}"
                constants[name] = value.detach()
                known[node] = remainder.get_attr(name)
            else:
                known[node] = value
    module = torch.nn.Module()
    for name, value in constants.items():
        module.register_buffer(name, value)
    remainder.lint()
    return GraphModule(module, remainder)


def align_products(program: GraphModule, multiple: int = 8) -> None:
    """Pad the operands of a program's matrix products `[m, k] @ [k, n]` to whole multiples, in place.

    Tensor cores load rows whose length is a multiple of 16 bytes several times faster, and the vocabulary
    of a language model is often no such number. Constants are padded now, in copies of their own; what
    varies is padded as it is made. Padding with zeros does not change a product.
    """
    graph = program.graph
    for node in [node for node in graph.nodes if node.target is torch.ops.aten.mm.default]:
        left, right = node.args
        inner, columns = (-size % multiple for size in _shape(program, right))
        if not inner and not columns:
            continue
        node.args = (
            _padded(program, left, 0, inner, before=node),
            _padded(program, right, inner, columns, before=node),
        )
        if columns:
            with graph.inserting_after(node):
                cut = graph.call_function(torch.ops.aten.slice.Tensor, (node, 1, 0, -columns))
            node.replace_all_uses_with(cut, delete_user_cb=lambda user, cut=cut: user is not cut)
    graph.lint()
    program.recompile()


def _shape(program: GraphModule, node: Node) -> torch.Size:
    held = program.get_buffer(str(node.target)) if node.op == "get_attr" else node.meta["val"]
    shape: torch.Size = held.shape
    return shape


def _padded(program: GraphModule, operand: Node, rows: int, columns: int, *, before: Node) -> Node:
    """Return the operand with zeros below and to the right."""
    if not rows and not columns:
        return operand
    padding = [0, columns, 0, rows]
    with program.graph.inserting_before(before):
        if operand.op != "get_attr":
            return program.graph.call_function(torch.ops.aten.constant_pad_nd.default, (operand, padding))
        name = f"{operand.target}_{rows}_{columns}"
        if name not in dict(program.named_buffers()):
            held = program.get_buffer(str(operand.target))
            program.register_buffer(name, torch.nn.functional.pad(held, padding))
        return program.graph.get_attr(name)
