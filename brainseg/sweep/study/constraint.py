"""What the best trial of a study has to keep: expressions over its metrics, such as `parameters <= 2e6`."""

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence

from brainseg.errors import ConfigError
from brainseg.keys import did_you_mean

LONGEST = 200  # characters
OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def check_constraints(constraints: Sequence[str], metrics: Sequence[str]) -> None:
    """Each compares metrics and numbers, or sums, differences and products of them, once by <= or >=.

    Raises ConfigError for anything else, for a name that is no metric, and for a constraint that is there twice.
    """
    for place, text in enumerate(constraints):
        where = f"constraints[{place}]"
        if text in constraints[:place]:
            raise ConfigError(f"{where} must differ from those before it, got {text!r} again; leave it out")
        try:
            excess(text, dict.fromkeys(metrics, 1.0))
        except ConfigError as error:
            raise ConfigError(f"{where} {error}") from error
        if not any(isinstance(node, ast.Name) for node in ast.walk(_comparison(text))):
            raise ConfigError(f"{where} must name a metric, got {text!r}; known are {', '.join(metrics)}")


def excess(text: str, metrics: Mapping[str, float]) -> float:
    """How far a trial with these metrics is beyond what the constraint allows; 0 or less: it keeps it.

    Infinitely far where a metric has no value.
    """
    comparison = _comparison(text)
    left, right = (_value(side, metrics) for side in (comparison.left, comparison.comparators[0]))
    found = left - right if isinstance(comparison.ops[0], ast.LtE) else right - left
    return math.inf if math.isnan(found) else found


def _comparison(text: str) -> ast.Compare:
    try:
        parsed = ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST else None
    except (SyntaxError, ValueError):
        parsed = None
    if not isinstance(parsed, ast.Compare) or len(parsed.ops) != 1 or not isinstance(parsed.ops[0], ast.LtE | ast.GtE):
        raise ConfigError(f"must compare a metric once, by <= or >=, got {text!r}; write parameters <= 2e6")
    return parsed


def _value(node: ast.expr, metrics: Mapping[str, float]) -> float:
    match node:
        case ast.Name(id=name) if name in metrics:
            return metrics[name]
        case ast.Name(id=name):
            known = did_you_mean(name, list(metrics)) or f"; known are {', '.join(metrics)}"
            raise ConfigError(f"must name metrics, got {name!r}{known}")
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and math.isfinite(number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, metrics)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](_value(left, metrics), _value(right, metrics))
    raise ConfigError(f"must be of metrics, numbers, +, - and *, got {ast.unparse(node)!r}; write parameters <= 2e6")
