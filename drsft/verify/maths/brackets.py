"""What is closed by a bracket of its own: groups, sets, absolute values, floors, matrices.

What it calls of the readers above it is declared here; `drsft.verify.maths.reader` has them.
"""

from drsft.verify.maths.lexer import UnreadableError
from drsft.verify.maths.stream import TokenStream, arithmetic, single
from drsft.verify.maths.syntax import Call, Matrix, Node, SetOf, Sym

__all__ = ["Brackets"]

CLOSERS = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "{set": ("set}",)}
MATRICES = ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array", "vmatrix", "Vmatrix")


class Brackets(TokenStream):
    """From an opener that has been taken to its closer."""

    def items(self, until: tuple[str, ...]) -> list[Node]:
        raise NotImplementedError

    def sum(self) -> Node:
        raise NotImplementedError

    def item(self) -> Node:
        raise NotImplementedError

    def matrix(self, environment: str) -> Node:
        if environment not in MATRICES:
            raise UnreadableError(environment)
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while True:
            kind, value = self.next
            if kind == "cmd" and str(value).startswith("end("):
                self.take()
                break
            if kind == "op" and value == "newline":
                self.take()
                rows.append(tuple(row))
                row = []
            elif kind == "op" and value == "&":
                self.take()
            elif kind == "end":
                raise UnreadableError("unclosed matrix")
            else:
                row.append(self.item())
        rows.append(tuple(row))
        rows = [row for row in rows if row]
        if not rows or len({len(row) for row in rows}) != 1:
            raise UnreadableError("ragged matrix")
        matrix = Matrix(tuple(rows))
        return Call("det", (matrix,)) if environment in ("vmatrix", "Vmatrix") else matrix

    def bracketed(self, opener: str) -> Node:
        if opener in ("(", "[", "{"):
            items, closer = self.closed_items(opener)
            return single(items, opener, closer)
        if opener == "{set":
            return self.set_of()
        if opener == "|":
            self.num_open_bars += 1
            inner = self.sum()
            self.expect("|")
            self.num_open_bars -= 1
            return Call("abs", (arithmetic(inner),))
        if opener == "dots":
            return Sym("dots")
        if opener in ("floor(", "ceil("):
            inner = self.sum()
            self.expect(opener[:-1] + ")")
            return Call(opener[:-1], (arithmetic(inner),))
        raise UnreadableError(opener)

    def closed_items(self, opener: str) -> tuple[list[Node], str]:
        bars, self.num_open_bars = self.num_open_bars, 0
        unit = self.unit
        items = self.items(until=CLOSERS[opener])
        if items and self.next[0] == "cmd" and self.next[1] in ("choose", "over"):
            name = "binom" if self.take()[1] == "choose" else "/"
            items = [Call(name, (arithmetic(items[-1]), arithmetic(self.sum())))]
        closer = self.expect(*CLOSERS[opener])
        self.num_open_bars, self.unit = bars, unit
        return items, closer

    def set_of(self) -> Node:
        was_in_builder, self.is_in_builder = self.is_in_builder, True
        items = self.items(until=("set}", "|", ":"))
        if self.at("|", ":"):
            self.take()
            items = self.items(until=("set}",))
            self.expect("set}")
            self.is_in_builder = was_in_builder
            return single(items, "{set", "set}")
        self.is_in_builder = was_in_builder
        self.expect("set}")
        return SetOf(tuple(items))
