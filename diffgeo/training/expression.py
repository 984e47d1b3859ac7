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

CONSTANTS = {"pi": math.pi, "e": math.e}
OPERATORS: dict[type[ast.AST], Callable[..., Tensor]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS_OF_ONE = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "abs": torch.abs,
    "sigmoid": torch.sigmoid,
}
FUNCTIONS_OF_TWO = {"min": torch.minimum, "max": torch.maximum}
FUNCTIONS = FUNCTIONS_OF_ONE | FUNCTIONS_OF_TWO
LARGEST = 1e300  # a number that may be typed


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

    try:
        check(tree, text, variables, allowed)
    except RecursionError as error:
        raise UsageError(f"the expression is nested too deeply: {allowed}") from error

    def function(**scope: Tensor) -> Tensor:
        return value(tree, scope)

    return function


def check(node: ast.AST, text: str, variables: Sequence[str], allowed: str) -> None:
    """Raise UsageError where a node of `text`, or one below it, is more than arithmetic in
    `variables`; `allowed` says what may be written."""
    below: list[ast.expr] = []
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if abs(number) > LARGEST:
                raise UsageError(
                    f"the expression '{text}' holds a number beyond floating point: {allowed}"
                )
        case ast.Name(id=name) if name in variables or name in CONSTANTS:
            pass
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            below = [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            below = [operand]
        case ast.Call(func=ast.Name(id=name), args=[_] as below, keywords=[]) if (
            name in FUNCTIONS_OF_ONE
        ):
            pass
        case ast.Call(func=ast.Name(id=name), args=[_, _] as below, keywords=[]) if (
            name in FUNCTIONS_OF_TWO
        ):
            pass
        case _:
            raise UsageError(
                f"the expression '{text}' may not hold '{ast.unparse(node)}': {allowed}"
            )
    for part in below:
        check(part, text, variables, allowed)


def value(node: ast.AST, scope: dict[str, Tensor]) -> Tensor:
    """What a checked node is worth, given the variables. Numbers are tensors, so that 1/0 is inf
    and can be looked at, not an exception."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return torch.tensor(float(number), dtype=torch.float64)
        case ast.Name(id=name) if name in scope:
            return scope[name]
        case ast.Name(id=name):
            return torch.tensor(CONSTANTS[name], dtype=torch.float64)
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](value(left, scope), value(right, scope))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](value(operand, scope))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            values = [value(argument, scope) for argument in arguments]
            return FUNCTIONS[name](*values)
    raise TypeError(f"{ast.dump(node)} was not checked")
