"""Arithmetic that a user may type, such as 1/(exp(t)-1), evaluated on tensors without `eval`.

The text is parsed into Python's syntax tree and walked; numbers, the given variables, + - * / **
(or ^), unary minus, calls of the functions below and the constants pi and e are all there is.
Anything else is refused by name.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffgeo.errors import UsageError

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS = {
    name: getattr(torch, name)
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "abs", "sigmoid")
}
FUNCTIONS |= {"min": torch.minimum, "max": torch.maximum}
ARGUMENTS = {"min": 2, "max": 2}  # every other function takes one
CONSTANTS = {"pi": math.pi, "e": math.e}


def compile_expression(text: str, variables: Sequence[str]) -> Callable[..., Tensor]:
    """A function of keyword tensors that evaluates `text`. Raises UsageError, naming the part that
    is not arithmetic."""
    allowed = (
        f"write arithmetic in {', '.join(variables)} with + - * / ** and {', '.join(FUNCTIONS)}"
    )
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"the expression '{text}' does not parse: {allowed}") from error

    def check(node: ast.AST) -> None:
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                if abs(node.value) > 1e300:
                    raise UsageError(
                        f"the expression '{text}' holds a number beyond floating point: {allowed}"
                    )
            case ast.Name(id=name) if name in variables or name in CONSTANTS:
                pass
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                check(left), check(right)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                check(operand)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if (
                name in FUNCTIONS and len(args) == ARGUMENTS.get(name, 1)
            ):
                for arg in args:
                    check(arg)
            case _:
                raise UsageError(
                    f"the expression '{text}' may not hold '{ast.unparse(node)}': {allowed}"
                )

    def value(node: ast.AST, scope: dict[str, Tensor]) -> Tensor:
        match node:
            case ast.Constant(value=number):
                # a tensor, so that 1/0 is inf and checked, not an exception
                return torch.tensor(float(number), dtype=torch.float64)
            case ast.Name(id=name):
                return (
                    scope[name]
                    if name in scope
                    else torch.tensor(CONSTANTS[name], dtype=torch.float64)
                )
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](value(left, scope), value(right, scope))
            case ast.UnaryOp(op=op, operand=operand):
                return OPERATORS[type(op)](value(operand, scope))
            case ast.Call(func=ast.Name(id=name), args=args):
                return FUNCTIONS[name](*(value(arg, scope) for arg in args))

    try:
        check(tree)
    except RecursionError as error:
        raise UsageError(f"the expression is nested too deeply: {allowed}") from error
    return lambda **scope: value(tree, scope)
