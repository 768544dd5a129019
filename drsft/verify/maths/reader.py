r"""Tokens to a tree: a recursive-descent reader of answers, LaTeX and ASCII alike.

    answer  := item (sep item)*                      sep is , ; "and" "or"
    item    := sets (relation sets)*
    sets    := ratio ((union | intersect | minus) ratio)*
    ratio   := sum (":" sum)*
    sum     := [sign] product ((+ | - | ±) product)*
    product := factor ((* | / | nothing) factor)*
    factor  := primary with ^ ! % ° ' and subscripts

What it cannot read is UnreadableError, never guessed: the symbolic step then has its turn. It takes the usual
reading where LaTeX leaves a choice: 3\frac{1}{2} is a mixed number, 1/2x is (1/2)x, e is Euler's number,
a(b+c) is a product, f(x) an unknown function's value.
"""

from fractions import Fraction
from functools import lru_cache

from drsft.verify.maths.lexer import UnreadableError, tokenize
from drsft.verify.maths.primaries import MAX_DEPTH, Primaries
from drsft.verify.maths.stream import END, arithmetic, mixed
from drsft.verify.maths.syntax import Call, Chain, Listing, Node, Num, Quantity, Words

__all__ = ["read"]

MAX_TOKENS = 2_000
RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "in", "approx", "equiv"})
SET_OPERATORS = frozenset({"union", "intersect", "minus"})
FILLER = frozenset({"approximately", "about", "exactly", "roughly", "is", "the", "answer"})
SEPARATOR = "sep"
OP = "op"


@lru_cache(maxsize=4096)  # a reference comes back for every one of its problem's samples
def read(text: str, *, grouped: bool = True) -> Node:
    """The tree of a cleaned text; raises UnreadableError. `grouped` is tokenize's."""
    tokens = tokenize(text, grouped=grouped)
    if len(tokens) > MAX_TOKENS:
        raise UnreadableError("too long")
    if not tokens:
        raise UnreadableError("empty")
    return _Reader(tokens).answer()


class _Reader(Primaries):
    def answer(self) -> Node:
        items = self.items(until=())
        if self.next != END:
            raise UnreadableError(f"left over {self.next[1]}")
        if not items:
            raise UnreadableError("empty")
        return items[0] if len(items) == 1 else Listing(tuple(items))

    def items(self, until: tuple[str, ...]) -> list[Node]:
        items: list[Node] = []
        while self.next != END and not self.at(*until):
            if self.next[0] == SEPARATOR:
                self.take()
                continue
            items.append(self.item())
            if self.next[0] != SEPARATOR:
                break
        return items

    def item(self) -> Node:
        sides, operators = [self.sets()], []
        while True:
            kind, value = self.next
            if kind == "op" and value in RELATIONS:
                self.take()
                if value == "in" or not self.at("="):
                    operators.append(str(value))
                else:
                    raise UnreadableError("double relation")
                sides.append(self.sets())
            elif kind == "op" and value == "implies":
                self.take()
                sides, operators = [self.sets()], []
            elif kind == "op" and value == "not":
                self.take()
                if not self.at("="):
                    raise UnreadableError("not")
                self.take()
                operators.append("!=")
                sides.append(self.sets())
            else:
                break
        return sides[0] if not operators else Chain(tuple(sides), tuple(operators))

    def sets(self) -> Node:
        self.unit = ""
        while self.next[0] == "word" and self.next[1] in FILLER and self.position + 1 < len(self.tokens):
            self.take()
        node = self.ratio()
        while self.at(*SET_OPERATORS):
            operator = str(self.take()[1])
            node = Call(operator, (node, self.ratio()))
        if self.unit and not isinstance(node, Words):
            node, self.unit = Quantity(node, self.unit), ""
        return node

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.at(":") and not self.is_in_builder:
            self.take()
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else Call("ratio", tuple(parts))

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        node: Node
        if self.at("-", "+", "pm", "mp"):
            sign = self.take()[1]
            operand = self.product()
            if sign in ("pm", "mp"):
                node = Call(str(sign), (Num(Fraction(0)), operand))
            else:
                node = Call("neg", (operand,)) if sign == "-" else operand
        else:
            node = self.product()
        while self.at("+", "-", "pm", "mp"):
            sign = str(self.take()[1])
            node = Call(sign, (arithmetic(node), arithmetic(self.product())))
        if self.at("mod"):
            self.take()
            node = Call("mod", (node, self.factor()))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.factor()
        while True:
            kind, value = self.next
            if kind == "op" and value in ("*", "/"):
                self.take()
                if value == "/" and self.next[0] == "word":
                    self.take_unit("/")
                    continue
                node = Call(str(value), (arithmetic(node), arithmetic(self.signed_factor())))
            elif kind == "word":
                self.take_unit("")
            elif kind == "num" and self.tokens[self.position - 1] in ((OP, ")"), (OP, "}")):
                node = Call("*", (arithmetic(node), arithmetic(self.factor())))  # (n-2) 2^n
            elif kind == "num":
                node = self.mixed_number(node)
            elif self.starts_factor():
                right = self.factor()
                whole = mixed(node, right)
                node = whole or Call("*", (arithmetic(node), arithmetic(right)))
            else:
                return node

    def signed_factor(self) -> Node:
        if self.at("-"):
            self.take()
            return Call("neg", (self.signed_factor(),))
        if self.at("+"):
            self.take()
        return self.factor()

    def take_unit(self, prefix: str) -> None:
        self.unit += prefix + str(self.take()[1])
        if self.at("^"):
            self.take()
            exponent = self.exponent()
            if not isinstance(exponent, Num):
                raise UnreadableError("exponent of a unit")
            self.unit += f"^{exponent.value}"

    def mixed_number(self, whole: Node) -> Node:
        """ "3 1/2" in ASCII; two numbers side by side mean nothing else."""
        numerator = self.take()[1]
        if self.at("/"):
            self.take()
            denominator = self.take()[1]
            if isinstance(numerator, Num) and isinstance(denominator, Num) and denominator.value:
                part = Call("/", (numerator, denominator))
                if (number := mixed(whole, part)) is not None:
                    return number
        raise UnreadableError("two numbers side by side")

    def starts_factor(self) -> bool:
        kind, value = self.next
        if kind in ("sym", "fn"):
            return True
        if kind == "cmd":
            return not str(value).startswith("end(") and value not in ("choose", "over")
        if kind == "op":
            return value in ("(", "[", "{", "{set", "floor(", "ceil(") or (
                value == "|" and self.num_open_bars == 0 and not self.is_in_builder
            )
        return False
