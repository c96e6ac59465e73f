"""Every small fault that can be put into a file: one place of its text, one operator, one text.

Left alone are docstrings, what errors, logs and warnings say, prose, annotations, `__repr__`, text
inside f-strings, and lines with `pragma: no mutate`; and what guards against a fault that would
have to be in the code already: assertions, `strict=`, `frozen=`, `slots=`, `kw_only=`, `encoding=`.
"""

from __future__ import annotations

import ast
import copy
import difflib
import re
from dataclasses import dataclass

Position = tuple[int, int]

_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_COMPARISON = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OTHER_NAME = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "sorted": "list",
    "reversed": "iter",
    "floor": "ceil",
    "ceil": "floor",
    "startswith": "endswith",
    "endswith": "startswith",
    "minimum": "maximum",
    "maximum": "minimum",
    "zeros": "ones",
    "ones": "zeros",
    "partition": "rpartition",
    "rpartition": "partition",
    "removeprefix": "removesuffix",
    "removesuffix": "removeprefix",
}
_DROPPED_METHODS = {"strip", "lstrip", "rstrip", "lower", "upper", "casefold", "sort", "copy"}
_SAID_BY = re.compile(
    r"(Error|Warning|Damaged|Exception)$|^(print|warn|log|debug|info|warning|error)$"
)
_SAYING = re.compile(r"^(problem|fix|message|reason|hint|why|help|description|doc|title|says)$")
_GUARDS = {"strict", "encoding", "frozen", "slots", "kw_only"}
_PROSE = re.compile(r"\S \S+ \S")
_TYPES = {"Literal", "Callable", "Union", "Optional", "Annotated", "TypeVar", "NewType", "cast"}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Fault:
    """One small fault.

    Attributes:
        file: Path from the root of the repository.
        line: Line that it begins on.
        operator: What kind of fault it is.
        scope: Function or class that it is in; empty at the top of a module.
        lines: First and last line of the statement (of a compound one, of its head).
        in_function: Whether it runs when a function is called, not when the module is imported.
        start: Line and byte of its first character.
        end: Line and byte after its last one.
        text: The line that it begins on, without blanks around it.
        before: What stands there.
        after: What stands there instead.
    """

    file: str
    line: int
    operator: str
    scope: str
    lines: tuple[int, int]
    in_function: bool
    start: Position
    end: Position
    text: str
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it apart from others, also when lines move: file, line, and change."""
        return self.file, self.text, f"{' '.join(self.before.split())} -> {self.after}"

    def applied(self, source: str) -> str:
        """Return the text of the file with the fault in it."""
        lines = source.encode().splitlines(keepends=True)
        (top, left), (bottom, right) = self.start, self.end
        head = b"".join(lines[: top - 1]) + lines[top - 1][:left]
        tail = lines[bottom - 1][right:] + b"".join(lines[bottom:])
        return (head + self.after.encode() + tail).decode()

    def diff(self, source: str) -> str:
        """Return what differs, as lines with - and +."""
        old, new = source.splitlines(), self.applied(source).splitlines()
        return "\n".join(
            line
            for line in difflib.unified_diff(old, new, lineterm="", n=0)
            if not line.startswith(("---", "+++", "@@"))
        )


def faults_of(file: str, source: str) -> list[Fault]:
    """Return all small faults of a file, in the order of its text."""
    finder = _Finder(file, source)
    finder.walk(ast.parse(source).body, scope="", in_function=False)
    unique = {(f.start, f.end, f.after): f for f in finder.found}
    return sorted(unique.values(), key=lambda f: (f.start, f.end, f.operator, f.after))


class _Finder:
    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.lines = source.encode().splitlines()
        self.found: list[Fault] = []
        self.place = ("", (0, 0), False)

    def walk(self, body: list[ast.stmt], scope: str, in_function: bool) -> None:
        """Find the faults of statements and of what is inside of them."""
        for statement in body:
            self.statement(statement, scope, in_function)

    def statement(self, node: ast.stmt, scope: str, in_function: bool) -> None:
        """Find the faults of one statement."""
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.Global | ast.Nonlocal):
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        inner = [
            part for name in ("body", "orelse", "finalbody") for part in getattr(node, name, [])
        ]
        last = min((part.lineno for part in inner), default=(node.end_lineno or 0) + 1) - 1
        self.place = (scope, (node.lineno, max(node.lineno, last)), in_function)
        if isinstance(node, _SCOPES):
            self.definition(node, scope, in_function)
            return
        self.of_statement(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ExceptHandler):
                self.handler(child, scope, in_function)
            elif isinstance(child, ast.match_case):
                if child.guard is not None:
                    self.expression(child.guard)
                self.walk(child.body, scope, in_function)
            elif isinstance(child, ast.withitem):
                self.expression(child.context_expr)
            elif isinstance(child, ast.expr) and not self.is_left_alone(node, child):
                self.expression(child)
        self.walk(inner, scope, in_function)

    def definition(self, node: ast.stmt, scope: str, in_function: bool) -> None:
        """Find the faults of a function or class: its defaults and decorators, then its body."""
        assert isinstance(node, _SCOPES)
        if node.name in ("__repr__", "__str__"):
            return
        for decorator in node.decorator_list:
            self.expression(decorator)
        name = f"{scope}.{node.name}" if scope else node.name
        if isinstance(node, ast.ClassDef):
            self.walk(node.body, name, in_function)
            return
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.expression(default)
        self.walk(node.body, name, in_function=True)

    def handler(self, node: ast.ExceptHandler, scope: str, in_function: bool) -> None:
        """Let an exception pass that is caught."""
        self.place = (scope, (node.lineno, node.lineno), in_function)
        if node.type is not None:
            self.add("exception class", node.type, "()")
        self.walk(node.body, scope, in_function)

    @staticmethod
    def is_left_alone(statement: ast.stmt, child: ast.expr) -> bool:
        """Say whether an expression is an annotation, a type, a target, or says something."""
        if isinstance(statement, ast.AnnAssign):
            return child is not statement.value
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            named = target.id if isinstance(target, ast.Name) else ""
            text = isinstance(statement.value, ast.Constant | ast.JoinedStr)
            is_type = isinstance(statement.value, ast.Subscript) and bool(
                {n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name)} & _TYPES
            )
            return named == "__all__" or is_type or (text and bool(_SAYING.match(named)))
        return False

    def of_statement(self, node: ast.stmt) -> None:
        """Find the faults that concern a statement as a whole."""
        removable = isinstance(node, ast.Expr | ast.AugAssign | ast.Delete | ast.Raise)
        if isinstance(node, ast.Assign):
            removable = all(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets)
        says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if says and _SAID_BY.search(_called(node.value)):  # type: ignore[attr-defined]
            return
        if removable:
            self.add("statement removed", node, "pass")
        if isinstance(node, ast.Break):
            self.add("break", node, "continue")
        if isinstance(node, ast.Continue):
            self.add("continue", node, "break")
        if isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
            self.add("return value", node.value, "None")
        if isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
            changed = copy.copy(node)
            changed.op = _ARITHMETIC[type(node.op)]()
            self.add("arithmetic", node, ast.unparse(changed))
        if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Compare):
            self.condition(node.test)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            self.add("exception class", node.exc.func, "Exception")

    def condition(self, node: ast.expr) -> None:
        """Turn a condition around."""
        if not (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
            self.add("condition", node, f"not ({ast.unparse(node)})")

    def expression(self, node: ast.expr) -> None:
        """Find the faults of an expression and of what is inside of it."""
        if isinstance(node, ast.JoinedStr):  # the places of what is inside are not exact
            if not any(_is_prose(part) for part in node.values):
                self.add("text emptied", node, "''")
            return
        if isinstance(node, ast.Call) and _called(node) in _TYPES:
            for argument in node.args[1:]:
                self.expression(argument)
            return
        self.of_expression(node)
        if isinstance(node, ast.Call) and _SAID_BY.search(_called(node)):
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.keyword):
                says = _SAYING.match(child.arg or "") and isinstance(child.value, ast.Constant)
                if not says and child.arg not in _GUARDS:
                    self.expression(child.value)
            elif isinstance(child, ast.comprehension):
                self.expression(child.iter)
                for test in child.ifs:
                    self.add("filter removed", test, "True")
                    self.expression(test)
            elif isinstance(child, ast.arguments):
                for default in [*child.defaults, *child.kw_defaults]:
                    if default is not None:
                        self.expression(default)
            elif isinstance(child, ast.expr):
                self.expression(child)

    def of_expression(self, node: ast.expr) -> None:
        """Find the faults that concern this expression itself."""
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            if not any(_is_text(side) or _is_class(side) for side in (node.left, node.right)):
                self.change("arithmetic", node, op=_ARITHMETIC[type(node.op)]())
        elif isinstance(node, ast.Compare):
            for number, op in enumerate(node.ops):
                for other in _COMPARISON[type(op)]:
                    ops = [*node.ops]
                    ops[number] = other()
                    self.change("comparison", node, ops=ops)
        elif isinstance(node, ast.BoolOp):
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            self.change("and, or", node, op=other_op)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            self.add("sign or not removed", node, f"({ast.unparse(node.operand)})")
        elif isinstance(node, ast.IfExp):
            self.change("condition", node, body=node.orelse, orelse=node.body)
        elif isinstance(node, ast.Constant):
            self.constant(node)
        elif isinstance(node, ast.Slice):
            if node.lower is not None:
                self.change("slice bound", node, lower=None)
            if node.upper is not None:
                self.change("slice bound", node, upper=None)
        elif isinstance(node, ast.Call):
            self.call(node)

    def constant(self, node: ast.Constant) -> None:
        """Change a number by one, turn a truth value around, empty a text."""
        if isinstance(node.value, bool):
            self.add("constant", node, str(not node.value))
        elif isinstance(node.value, int | float):
            self.add("constant", node, repr(node.value + 1))
            self.add("constant", node, f"({node.value - 1!r})")
        elif isinstance(node.value, str) and node.value and not _is_prose(node):
            self.add("text emptied", node, "''")

    def call(self, node: ast.Call) -> None:
        """Call something else, or with an argument less."""
        name = _called(node)
        if _SAID_BY.search(name):
            return
        if name in _OTHER_NAME:
            func = copy.copy(node.func)
            setattr(func, "id" if isinstance(func, ast.Name) else "attr", _OTHER_NAME[name])
            keywords = [] if name == "sorted" else node.keywords
            self.change("other function", node, func=func, keywords=keywords)
        if isinstance(node.func, ast.Attribute) and name in _DROPPED_METHODS:
            self.add("call removed", node, ast.unparse(node.func.value))
        if len(node.args) > 1 and not isinstance(node.args[-1], ast.Starred):
            self.change("argument removed", node, args=node.args[:-1])
        for number, keyword in enumerate(node.keywords):
            if not _SAYING.match(keyword.arg or "") and keyword.arg not in _GUARDS:
                kept = [*node.keywords[:number], *node.keywords[number + 1 :]]
                self.change("argument removed", node, keywords=kept)

    def change(self, operator: str, node: ast.expr, **parts: object) -> None:
        """Replace an expression by a copy with other parts."""
        changed = copy.copy(node)
        for name, part in parts.items():
            setattr(changed, name, part)
        text = ast.unparse(changed)
        self.add(operator, node, text if isinstance(node, ast.Call | ast.Slice) else f"({text})")

    def add(self, operator: str, node: ast.expr | ast.stmt, after: str) -> None:
        """Note a fault, unless its line says that there is none."""
        start = (node.lineno, node.col_offset)
        end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
        scope, lines, in_function = self.place
        if any(b"pragma: no" in line for line in self.lines[lines[0] - 1 : lines[1]]):
            return
        whole = [*self.lines[start[0] - 1 : end[0]]]
        whole[-1] = whole[-1][: end[1]]
        whole[0] = whole[0][start[1] :]
        before = b"\n".join(whole).decode()
        text = self.lines[start[0] - 1].decode().strip()
        found = Fault(
            file=self.file,
            line=start[0],
            operator=operator,
            scope=scope,
            lines=lines,
            in_function=in_function,
            start=start,
            end=end,
            text=text,
            before=before,
            after=after,
        )
        self.found.append(found)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.List) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_prose(node: ast.expr) -> bool:
    """Say whether a text has at least three words, so that a person is to read it."""
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and bool(_PROSE.search(text))


def _is_class(node: ast.expr) -> bool:
    """Say whether this is a class, as in `isinstance(x, int | float)`, by its name."""
    name = node.id if isinstance(node, ast.Name) else ""
    return name in {"int", "float", "str", "list", "dict", "tuple", "set", "None"} or (
        name[:1].isupper() and not name.isupper()
    )
