"""Python of one environment, rewritten for many at once by its syntax tree.

`if` becomes a mask: what is assigned under it is selected lane by lane, and a branch that no lane
takes is not run. What the names in the result mean is in `_arrays.py`.
"""

import ast
import inspect
import sys
import textwrap
from types import ModuleType, SimpleNamespace
from typing import Any

from trmrl.envs.metaworld._arrays import NAMES
from trmrl.types import TrmrlError

_CURRENT = "self.reward_function_version == 'v2'"  # the benchmark's own; the other is not read
_RUNNING, _RESULT = "_running", "_result"


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _call(function: str, *args: ast.expr) -> ast.Call:
    return ast.Call(_name(function), list(args), [])


def _lazy(value: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), value)


def _copy(target: ast.expr) -> ast.expr:
    """Return what reads the place that an assignment writes."""
    return ast.parse(ast.unparse(target), mode="eval").body


class _Expressions(ast.NodeTransformer):
    """Expressions whose meaning for many lanes is another one."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        function = "_both" if isinstance(node.op, ast.And) else "_either"
        value = node.values[0]
        for other in node.values[1:]:
            value = _call(function, value, _lazy(other))
        return value

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        lefts = [node.left, *node.comparators]
        links = [
            ast.Compare(left, [op], [right])
            for left, op, right in zip(lefts, node.ops, node.comparators, strict=False)
        ]
        value: ast.expr = links[0]
        for link in links[1:]:
            value = _call("_both", value, _lazy(link))
        return value

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return _call("_negate", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        return _call("_choose", node.test, _lazy(node.body), _lazy(node.orelse))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr == "item" and not node.args:
                return node.func.value  # a number is an array here
            if node.func.attr == "reshape":
                node.args.append(ast.Constant(-1))
        return node


class _Statements:
    """The statements of one function, under masks."""

    def __init__(self) -> None:
        self._count = 0

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list = [d for d in node.decorator_list if ast.unparse(d) in _DECORATORS]
        node.returns = None
        for arg in ast.walk(node.args):
            if isinstance(arg, ast.arg):
                arg.annotation = None
        returns = [n for s in node.body if not isinstance(s, ast.Return) for n in _returns(s)]
        early = bool(returns)
        arguments = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
        body = self.block(node.body, _RUNNING if early else None)
        unset = sorted(_assigned(body) - arguments - {_RUNNING})
        first = [_assign(name, _name("_UNSET")) for name in unset]
        if early:
            first.append(_assign(_RUNNING, ast.Constant(True)))
            body.append(ast.Return(_name(_RESULT)))
        node.body = [*first, *body]
        return node

    def block(self, statements: list[ast.stmt], mask: str | None) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for i, statement in enumerate(statements):
            result += self.statement(statement, mask)
            rest = statements[i + 1 :]
            if mask and rest and _returns(statement):
                rest_mask = self.fresh()
                result.append(_assign(rest_mask, _call("_intersect", _name(_RUNNING), _name(mask))))
                return [*result, *self.guarded(rest, rest_mask)]
        return result or [ast.Pass()]

    def guarded(self, statements: list[ast.stmt], mask: str) -> list[ast.stmt]:
        return [ast.If(_call("_any_lane", _name(mask)), self.block(statements, mask), [])]

    def statement(self, node: ast.stmt, mask: str | None) -> list[ast.stmt]:
        match node:
            case ast.Assign():
                return [s for target in node.targets for s in self.store(target, node.value, mask)]
            case ast.AnnAssign(value=None) | ast.Assert() | ast.Delete() | ast.Pass():
                return []
            case ast.AnnAssign(target=target, value=value) if value is not None:
                return self.store(target, value, mask)
            case ast.AugAssign():
                value = ast.BinOp(_copy(node.target), node.op, node.value)
                return self.store(node.target, value, mask)
            case ast.If():
                return self.branch(node, mask)
            case ast.Return() if mask is None:
                return [ast.Return(_visit(node.value))] if node.value else [node]
            case ast.Return(value=value) if value is not None:
                ended = _call("_intersect", _name(_RUNNING), _call("_negate", _name(mask or "")))
                return [
                    *self.store(ast.Name(_RESULT, ast.Store()), value, mask),
                    _assign(_RUNNING, ended),
                ]
            case ast.FunctionDef():
                return [_Statements().function(node)]
            case ast.Raise():
                # Lanes outside the mask may hold anything, so only what is certain is an error.
                return [ast.If(_call("_is_certain", _name(mask)), [node], [])] if mask else [node]
            case ast.Expr(value=ast.Constant()):
                return []
        raise NotImplementedError(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")

    def branch(self, node: ast.If, mask: str | None) -> list[ast.stmt]:
        if ast.unparse(node.test) == _CURRENT:
            return self.block(node.body, mask)
        test, yes, no = self.fresh(), self.fresh(), self.fresh()
        outer = _name(mask) if mask else ast.Constant(True)
        result: list[ast.stmt] = [
            _assign(test, _visit(node.test)),
            _assign(yes, _call("_intersect", outer, _name(test))),
            *self.guarded(node.body, yes),
        ]
        if node.orelse:
            other = _call("_intersect", outer, _call("_negate", _name(test)))
            result += [_assign(no, other), *self.guarded(node.orelse, no)]
        return result

    def store(self, target: ast.expr, value: ast.expr, mask: str | None) -> list[ast.stmt]:
        value = _visit(value)
        if isinstance(target, ast.Tuple | ast.List):
            whole = self.fresh()
            result: list[ast.stmt] = [_assign(whole, value)]
            for i, part in enumerate(target.elts):
                item = ast.Subscript(_name(whole), ast.Constant(i), ast.Load())
                result += self.store(part, item, mask)
            return result
        if mask:
            value = _call("_select", _name(mask), value, _copy(target))
        return [ast.Assign([target], value)]

    def fresh(self) -> str:
        self._count += 1
        return f"_{self._count}"


_DECORATORS = ("staticmethod", "property")


def _visit(value: ast.expr) -> ast.expr:
    return _Expressions().visit(value)


def _assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _returns(node: ast.AST) -> list[ast.Return]:
    """Return a statement's returns: not of functions in it, nor of what is never run."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        return []
    if isinstance(node, ast.If) and ast.unparse(node.test) == _CURRENT:
        return [r for s in node.body if not isinstance(s, ast.Return) for r in _returns(s)]
    found = [node] if isinstance(node, ast.Return) else []
    return found + [r for child in ast.iter_child_nodes(node) for r in _returns(child)]


def _assigned(body: list[ast.stmt]) -> set[str]:
    """Return the variables that statements assign, not those of functions in them."""
    names: set[str] = set()
    pending: list[ast.AST] = [*body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ListComp | ast.GeneratorExp):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        pending += ast.iter_child_nodes(node)
    return names


def _keep_current(node: ast.AST) -> None:
    """Drop the branches of older rewards, so that nothing they mention is translated."""
    for child in ast.walk(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == _CURRENT:
            child.orelse = []


def _keep_success(node: ast.FunctionDef) -> None:
    """Drop what a method works out besides reward and success: diagnostics, which cost time."""
    for child in ast.walk(node):
        if isinstance(child, ast.Dict):
            pairs = zip(child.keys, child.values, strict=True)
            kept = [
                (k, v) for k, v in pairs if isinstance(k, ast.Constant) and k.value == "success"
            ]
            child.keys, child.values = [k for k, _ in kept], [v for _, v in kept]
    while True:
        read = {
            n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        }
        kept = [s for s in node.body if not (isinstance(s, ast.Assign) and _is_unused(s, read))]
        if len(kept) == len(node.body):
            return
        node.body = kept


def _is_unused(node: ast.Assign, read: set[str]) -> bool:
    """Return whether an assignment gives values to nothing but variables that are not read."""
    parts = [part for target in node.targets for part in ast.walk(target)]
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    plain = (ast.Name, ast.Tuple, ast.List, ast.expr_context)
    return all(isinstance(part, plain) for part in parts) and not names & read


def _execute(body: list[ast.stmt], names: dict[str, Any], origin: str) -> dict[str, Any]:
    tree = ast.fix_missing_locations(ast.Module(body, []))
    exec(compile(tree, f"<{origin}, over lanes>", "exec", dont_inherit=True), names)
    return names


def _methods(body: list[ast.stmt]) -> list[ast.FunctionDef]:
    return [node for node in body if isinstance(node, ast.FunctionDef)]


def _over_lanes(functions: list[ast.FunctionDef], origin: str) -> list[ast.stmt]:
    result: list[ast.stmt] = []
    for node in functions:
        try:
            result.append(_Statements().function(node))
        except NotImplementedError as error:
            raise TrmrlError(f"{origin}.{node.name} cannot be translated: {error}") from error
    return result


def translate_functions(module: ModuleType) -> SimpleNamespace:
    """Return a module's functions over lanes. Raises `TrmrlError` if one cannot be translated."""
    functions = _methods(ast.parse(inspect.getsource(module)).body)
    names = {**vars(module), **NAMES}
    _execute(_over_lanes(functions, module.__name__), names, module.__name__)
    return SimpleNamespace(**{node.name: names[node.name] for node in functions})


def translate_class(cls: type, root: type, stop: type, roots: set[str], names: dict) -> type:
    """Return a class whose methods `roots`, and those they need, are `cls`'s over lanes.

    Its base is `root`, in place of the base class `stop` of `cls` and of what `root` defines.
    `names` replaces globals of the methods' modules. Raises `TrmrlError` if a method cannot be
    translated.
    """
    classes = [base for base in cls.__mro__ if base is not stop and issubclass(base, stop)]
    trees: dict[type, ast.ClassDef] = {}
    methods: dict[str, list[ast.FunctionDef]] = {}
    for base in classes:
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(tree, ast.ClassDef)
        _keep_current(tree)
        trees[base] = tree
        for node in _methods(tree.body):
            if node.name not in vars(root):
                methods.setdefault(node.name, []).append(node)
    wanted, pending = set(), set(roots)
    while pending:
        name = pending.pop()
        wanted.add(name)
        for node in methods.get(name, ()):
            if name == "evaluate_state":
                _keep_success(node)
            pending |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)} - wanted
    translated: dict[type, type] = {stop: root}
    for base in reversed(classes):
        tree = trees[base]
        constants = [s for s in tree.body if not _methods([s]) and _assigned([s]) & wanted]
        kept = [n for n in _methods(tree.body) if n.name in wanted and n.name not in vars(root)]
        body = [*constants, *_over_lanes(kept, base.__name__)] or [ast.Pass()]
        bases = [translated[b] for b in base.__bases__ if b in translated]
        scope = {**vars(sys.modules[base.__module__]), **NAMES, **names}
        scope |= {b.__name__: translated[b] for b in base.__bases__ if b in translated}
        heads: list[ast.expr] = [_name(f"_base{i}") for i in range(len(bases))]
        scope |= {f"_base{i}": b for i, b in enumerate(bases)}
        whole = ast.ClassDef(base.__name__, heads, [], body, [])
        translated[base] = _execute([whole], scope, base.__name__)[base.__name__]
    return translated[cls]
