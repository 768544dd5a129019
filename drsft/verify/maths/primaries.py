"""The lower half of the reader: primaries, their powers and subscripts, functions and commands.

The upper half (sums, relations, lists) is `drsft.verify.maths.reader`; what the two call of each other is
declared here.
"""

from fractions import Fraction

from drsft.verify.maths.brackets import Brackets
from drsft.verify.maths.lexer import UnreadableError
from drsft.verify.maths.stream import END, arithmetic, single
from drsft.verify.maths.syntax import (
    Call,
    Chain,
    Node,
    Num,
    Sym,
    Words,
    symbols_of,
)

__all__ = ["MAX_DEPTH", "OPAQUE", "Primaries"]

MAX_DEPTH = 50
FUNCTION_LETTERS = frozenset("fghFGHPQ")
CONSTANTS = frozenset({"pi", "e", "i", "inf"})


OPAQUE = "apply series"  # a value that is only known to be equal for equal parts


class Primaries(Brackets):
    """The readings that bind tightest."""

    def product(self) -> Node:
        raise NotImplementedError

    def signed_factor(self) -> Node:
        raise NotImplementedError

    def starts_factor(self) -> bool:
        raise NotImplementedError

    def factor(self) -> Node:
        node = self.primary()
        while self.next[0] == "op":
            operator = self.next[1]
            if operator == "^":
                self.take()
                node = self.power(node)
            elif operator == "!":
                self.take()
                node = Call("!", (arithmetic(node),))
            elif operator in ("%", "deg", "circ"):
                self.take()
                node = Call("%" if operator == "%" else "deg", (arithmetic(node),))
            elif operator == "_":
                self.take()
                node = self.subscripted(node)
            elif operator == "'" and isinstance(node, Sym):
                self.take()
                node = Sym(node.name + "'")
            else:
                break
        return node

    def power(self, base: Node) -> Node:
        if self.at("circ", "deg"):
            self.take()
            return Call("deg", (arithmetic(base),))
        if self.at("'") and isinstance(base, Sym):
            self.take()
            return Sym(base.name + "'")
        if self.at("{") and self.tokens[self.position + 1 : self.position + 2] in (
            [("op", "circ")],
            [("op", "'")],
        ):
            self.take()
            mark = self.take()[1]
            while self.at("'"):
                self.take()
                mark = "''"
            self.expect("}")
            if mark == "circ":
                return Call("deg", (arithmetic(base),))
            if isinstance(base, Sym):
                return Sym(base.name + str(mark))
            raise UnreadableError("prime")
        return Call("^", (arithmetic(base), arithmetic(self.exponent())))

    def exponent(self) -> Node:
        if self.at("-", "+"):
            sign = self.take()[1]
            operand = self.exponent()
            return Call("neg", (operand,)) if sign == "-" else operand
        node = self.primary()
        if self.at("^"):  # 2^3^2 is 2^(3^2) in ASCII
            self.take()
            node = Call("^", (arithmetic(node), arithmetic(self.exponent())))
        elif self.at("!"):
            self.take()
            node = Call("!", (arithmetic(node),))
        return node

    def subscripted(self, node: Node) -> Node:
        """A symbol's name grows by its subscript; a number's subscript is its base."""
        if isinstance(node, Num):
            base = self.primary()
            if isinstance(base, Num):
                return Call("base", (node, base))
            raise UnreadableError("subscript of a number")
        if not isinstance(node, Sym):
            raise UnreadableError("subscript")
        start, depth = self.position, 0
        while True:
            if self.next == END:
                raise UnreadableError("unclosed subscript")
            depth += self.at("{") - self.at("}")
            self.take()
            if depth <= 0:
                break
        written = [value for _, value in self.tokens[start : self.position] if value not in ("{", "}")]
        parts = [str(value.value) if isinstance(value, Num) else str(value) for value in written]
        return Sym(f"{node.name}_{''.join(parts)}")

    def primary(self) -> Node:
        kind, value = self.take()
        if kind == "num":
            assert isinstance(value, Num)
            return value
        if kind == "sym":
            return self.symbol(str(value))
        if kind == "fn":
            return self.function(str(value))
        if kind == "cmd":
            return self.command(str(value))
        if kind == "word":
            words = [str(value)]
            while self.next[0] == "word":
                words.append(str(self.take()[1]))
            return Words(" ".join(words))
        if kind == "op":
            return self.bracketed(str(value))
        raise UnreadableError(f"expected a value, not {value}")

    def symbol(self, name: str) -> Node:
        if name in CONSTANTS or not self.at("("):
            return Sym(name)
        inside = self.tokens[self.position + 1 : self.position + 3]
        is_argument = len(inside) == 2 and inside[1] == ("op", ")") and inside[0][0] in ("num", "sym")
        if name in FUNCTION_LETTERS or is_argument:
            self.take()
            return Call(f"apply {name}", tuple(self.closed_items("(")[0]))
        start = self.position
        self.take()
        items, _ = self.closed_items("(")
        if len(items) > 1:
            return Call(f"apply {name}", tuple(items))
        self.position = start
        return Sym(name)

    def function(self, name: str) -> Node:
        subscript: Node | None = None
        exponent: Node | None = None
        while self.at("_", "^"):
            if self.take()[1] == "_":
                subscript = self.primary()
            else:
                exponent = self.exponent()
        if name in ("min", "max", "gcd", "lcm"):
            self.expect("(")
            return Call(name, tuple(arithmetic(item) for item in self.closed_items("(")[0]))
        argument = arithmetic(self.argument())
        if exponent == Call("neg", (Num(Fraction(1)),)) and name in ("sin", "cos", "tan"):
            return Call(f"arc{name}", (argument,))
        if subscript is not None and name != "log":
            raise UnreadableError("subscript of a function")
        node = Call(name, (argument,) if subscript is None else (argument, subscript))
        return node if exponent is None else Call("^", (node, exponent))

    def argument(self) -> Node:
        """sin(x)y is sin(x) times y, but \\sin 2x is the sine of all of 2x; a second function ends it."""
        if self.at("(", "{", "["):
            opener = str(self.take()[1])
            items, closer = self.closed_items(opener)
            node = single(items, opener, closer)
            return self.postfixed(node)
        node = self.signed_factor()
        while self.starts_factor() and self.next[0] != "fn" and not self.at("("):
            node = Call("*", (arithmetic(node), arithmetic(self.factor())))
        if (
            self.at("/")
            and self.tokens[self.position + 1 : self.position + 2]
            and isinstance(node, Num | Sym)
        ):
            following = self.tokens[self.position + 1]
            if following[0] == "num":  # \sin \pi/3
                self.take()
                node = Call("/", (node, self.factor()))
        return node

    def postfixed(self, node: Node) -> Node:
        while self.at("deg"):
            self.take()
            node = Call("deg", (arithmetic(node),))
        return node

    def command(self, name: str) -> Node:
        if name == "frac":
            return Call("/", (arithmetic(self.part()), arithmetic(self.part())))
        if name == "sqrt":
            if self.at("["):
                self.take()
                index = single(self.closed_items("[")[0], "[", "]")
                return Call("root", (arithmetic(self.part()), arithmetic(index)))
            return Call("sqrt", (arithmetic(self.part()),))
        if name in ("binom", "tbinom", "dbinom"):
            return Call("binom", (arithmetic(self.part()), arithmetic(self.part())))
        if name in ("sum", "prod"):
            return self.series(name)
        if name.startswith("begin("):
            return self.matrix(name[len("begin(") : -1].strip("*"))
        raise UnreadableError(name)

    def part(self) -> Node:
        """What a command applies to: a group, or the next primary alone (\\sqrt3, \\frac x2)."""
        if self.at("-"):
            self.take()
            return Call("neg", (self.part(),))
        return self.primary()

    def series(self, name: str) -> Node:
        lower: Node | None = None
        upper: Node | None = None
        while self.at("_", "^"):
            if self.take()[1] == "_":
                self.expect("{")
                lower = single(self.closed_items("{")[0], "{", "}")
            else:
                upper = self.exponent()
        if not isinstance(lower, Chain) or lower.ops != ("=",) or upper is None:
            raise UnreadableError("series without bounds")
        index, body = lower.sides[0], arithmetic(self.product())
        if not isinstance(index, Sym):
            raise UnreadableError("index of a series")
        if any("_" in name for name in symbols_of(body)):
            return Call(f"{OPAQUE} {name}", (index, lower.sides[1], upper, body))
        return Call(name, (index, lower.sides[1], upper, body))
