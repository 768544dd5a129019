r"""Parses tokens into a tree: a recursive-descent parser of answers, LaTeX and ASCII alike.

    answer  := item (sep item)*                      sep is , ; "and" "or", or nothing between two quantities
    item    := sets (relation sets)*
    sets    := ratio [unit] ((union | intersect | minus) ratio)*
    ratio   := sum (":" sum)*
    sum     := [sign] product ((+ | - | ±) product)*
    product := factor ((* | / | nothing) factor)* with % and ° after all of it
    factor  := primary with ^ ! ' and subscripts

It raises UnreadableError instead of guessing; symbolic algebra is tried then. If LaTeX is ambiguous, it
takes the usual reading: 3\frac{1}{2} is a mixed number, 1/2x is (1/2)x, 25/2\% is 12.5 %, e is Euler's
number, a(b+c) is a product, f(x) an unknown function's value.
"""

from collections import Counter
from fractions import Fraction
from functools import lru_cache

from drsft.verify.maths.evaluate import exact
from drsft.verify.maths.syntax import (
    Builder,
    Call,
    Chain,
    Listing,
    Matrix,
    Node,
    Num,
    Quantity,
    Seq,
    SetOf,
    Sym,
    Words,
    symbols_of,
)
from drsft.verify.maths.tokens import POWERS, PRIMES, Token, UnreadableError, tokenize
from drsft.verify.maths.units import CURRENCIES, is_unit
from drsft.verify.words import label_of

__all__ = ["OPAQUE", "UNIT_LETTERS", "parse"]

MAX_TOKENS = 2_000
MAX_DEPTH = 50
END: Token = ("end", "")
RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "in", "approx", "equiv"})
SET_OPERATORS = frozenset({"union", "intersect", "minus"})
FILLER = frozenset({"approximately", "just", "about", "exactly", "roughly", "is", "the", "answer"})
OPENERS = ("(", "[", "{", "{set", "floor(", "ceil(")
CLOSERS = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "{set": ("set}",)}
TWO_PARTS = {"frac": "/", **dict.fromkeys(("binom", "tbinom", "dbinom"), "binom")}
MATRICES = ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array")
FUNCTION_LETTERS = frozenset("fghFGHPQE")
CONSTANTS = frozenset({"pi", "e", "i", "inf"})
UNIT_LETTERS = frozenset("msgNJWVAKLhCZT")
OPAQUE = "apply series"  # a value that is only known to be equal for equal parts


@lru_cache(maxsize=4096)  # a reference comes back for every one of its problem's samples
def parse(text: str, *, grouped: bool = True) -> Node:
    """Returns the tree of a text from `clean`, or raises UnreadableError. `grouped` is that of `tokenize`."""
    tokens = tokenize(text, grouped=grouped)
    if len(tokens) > MAX_TOKENS:
        raise UnreadableError(f"the answer has more than {MAX_TOKENS} tokens")
    try:
        return _Parser(tokens).answer()
    except UnreadableError:
        # The g of "\\frac{2}{5} g K^{-3/5}" and the F of "} F_k" are no units.
        letters = [
            ("sym", value) if kind == "unit" and len(str(value)) == 1 else (kind, value)
            for kind, value in tokens
        ]
        if letters == tokens:
            raise
        return _Parser(letters).answer()


def _single(items: list[Node], opener: str, closer: str) -> Node:
    """Returns a single item instead of matching brackets around it."""
    if not items:
        raise UnreadableError("a pair of brackets is empty")
    is_matching = (opener, closer) not in (("(", "]"), ("[", ")"))
    if len(items) == 1 and is_matching:
        item = items[0]
        if isinstance(item, Quantity) and any(len(name) == 1 for name, _ in item.unit):
            raise UnreadableError("a letter in brackets is not a unit")  # \\frac{3 m}{2} - 1
        return item.value if isinstance(item, Quantity) else item
    if opener in ("{", "{set"):
        return Seq(tuple(items), "", "")
    return Seq(tuple(items), opener, closer)


def _arithmetic(node: Node) -> Node:
    """Returns a number, symbol, call or a quantity's value; raises UnreadableError for all other nodes."""
    if isinstance(node, Quantity):
        return node.value
    if isinstance(node, Num | Sym | Call):
        return node
    raise UnreadableError("arithmetic is applied to a list, a set, a matrix or words")


def _mixed(whole: Node, part: Node) -> Node | None:
    """Returns the mixed number of a whole number and a proper fraction of whole numbers: 3\\frac{1}{2}."""
    match whole, part:
        case Num(Fraction(denominator=1) as count, None), Call("/", (Num(top, None), Num(bottom, None))):
            return Num(count + top / bottom) if 0 < top < bottom else None
    return None


class _Parser:
    """The tokens, the position of the next one, and the state of the parse."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = [*tokens, END, END, END]  # for looks ahead
        self.position = 0
        self.depth = 0
        self.num_open_bars = 0
        self.unit: list[tuple[str, int]] = []
        self.is_in_builder = False  # inside \\{x : ...\\}, where ":" is "such that"

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    @property
    def ahead(self) -> Token:
        return self.tokens[self.position + 1]

    def take(self) -> Token:
        token = self.next
        self.position += token != END
        return token

    def at(self, *operators: str) -> bool:
        kind, value = self.next
        return kind == "op" and value in operators

    def accept(self, *operators: str) -> str:
        """Takes and returns one of the operators if it is next; "" if none is."""
        return str(self.take()[1]) if self.at(*operators) else ""

    def expect(self, *operators: str) -> str:
        if not (operator := self.accept(*operators)):
            raise UnreadableError(f"{operators[0]!r} is missing")
        return operator

    def answer(self) -> Node:
        items = self.items(until=())
        if self.next != END:
            raise UnreadableError(f"the answer is complete before {self.next[1]}")
        if not items:
            raise UnreadableError("the answer is empty")
        return items[0] if len(items) == 1 else Listing(tuple(items))

    def items(self, until: tuple[str, ...]) -> list[Node]:
        items: list[Node] = []
        is_joined = False
        while self.next != END and not self.at(*until):
            if self.next[0] == "sep":
                self.take()
                continue
            item = self.item()
            if is_joined and not isinstance(item, Quantity):
                raise UnreadableError("nothing connects two adjacent values")
            items.append(item)
            # "5 feet 8 inches" goes on, "38 people saw fewer than 3 whales" does not
            is_measured = isinstance(item, Quantity) and not any(" " in name for name, _ in item.unit)
            is_joined = is_measured and self.next[0] == "num"
            if self.next[0] != "sep" and not is_joined:
                break
        return items

    def item(self) -> Node:
        sides = [self.sets()]
        operators: list[str] = []
        while operator := self.accept(*RELATIONS, "implies", "not"):
            if operator == "implies":
                sides, operators = [], []
            elif operator == "not":
                self.expect("=")
                operators.append("!=")
            elif operator != "in" and self.at("="):
                raise UnreadableError("a relation is followed by another one")
            else:
                operators.append(operator)
            sides.append(self.sets())
        return sides[0] if not operators else Chain(tuple(sides), tuple(operators))

    def sets(self) -> Node:
        self.unit = []
        while self.next[0] == "word" and self.next[1] in FILLER and self.tokens[self.position + 1] != END:
            self.take()
        node = self.with_unit(self.ratio())
        while operator := self.accept(*SET_OPERATORS):
            node = Call(operator, (node, self.with_unit(self.ratio())))
        return node

    def with_unit(self, node: Node) -> Node:
        if not self.unit or isinstance(node, Words):
            return node
        powers = Counter[str]()
        for name, power in self.unit:
            powers[name] += power
        self.unit = []
        unit = tuple((name, power) for name, power in powers.items() if power)
        return Quantity(node, unit) if unit else node

    def ratio(self) -> Node:
        parts = [self.sum()]
        while not self.is_in_builder and self.accept(":"):
            parts.append(self.sum())
        if len(parts) == 2 and isinstance(parts[0], Words):
            return Chain((parts[0], self.with_unit(parts[1])), ("=",))  # adults: 14
        return parts[0] if len(parts) == 1 else Call("ratio", tuple(parts))

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("the answer is nested too deeply")
        sign = self.accept("-", "+", "pm", "mp")
        node = self.product()
        if sign in ("pm", "mp"):
            node = Call(sign, (Num(Fraction(0)), node))
        elif sign == "-":
            node = Call("neg", (node,))
        while sign := self.accept("+", "-", "pm", "mp"):
            node = Call(sign, (_arithmetic(node), _arithmetic(self.product())))
        if self.accept("mod"):
            node = Call("mod", (node, self.factor()))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.factor()
        while True:
            kind, value = self.next
            if sign := self.accept("%", "deg", "circ"):
                node = self.with_sign("%" if sign == "%" else "deg", node)
            elif kind == "unit" or (kind == "word" and value not in ("and", "or")):
                self.take_unit(1)
            elif self.starts_unit(1) and (self.at("/") or (self.at("*") and self.unit)):
                self.take_unit(1 if self.take()[1] == "*" else -1)
            elif operator := self.accept("*", "/"):
                node = self.applied(operator, node, self.signed_factor())
            elif kind == "cmd" and value == "frac" and self.starts_unit(1):
                self.take()
                self.take_unit(1)
                self.take_unit(-1)
            elif self.unit and kind in ("num", "sym"):
                return node  # the next quantity
            elif kind == "num" and (self.tokens[self.position - 1][1] in (")", "}") or self.ahead[1] == "^"):
                node = Call("*", (_arithmetic(node), _arithmetic(self.factor())))  # (n-2) 2^n, 4.37 10^-6
            elif kind == "num":
                node = self.mixed_number(node)
            elif self.starts_factor():
                right = self.factor()
                node = _mixed(node, right) or self.applied("*", node, right)
            else:
                return node

    def with_sign(self, sign: str, node: Node) -> Node:
        """Applies percent or degrees to all before it; a degree sign before C or F is a temperature's."""
        if sign == "deg" and self.next[1] in ("C", "F", "c", "f") and self.next[0] in ("sym", "unit", "word"):
            self.unit.append((f"°{str(self.take()[1]).upper()}", 1))
            return node
        return Call(sign, (_arithmetic(node),))

    def applied(self, operator: str, left: Node, right: Node) -> Node:
        """Applies an operator; in 25/2^\\circ the degree sign binds to the whole fraction."""
        left, right = _arithmetic(left), _arithmetic(right)
        if operator == "/" and isinstance(left, Num):
            match right:
                case Call("deg", (Num() as denominator,)):
                    return Call("deg", (Call("/", (left, denominator)),))
        return Call(operator, (left, right))

    def signed_factor(self) -> Node:
        if self.accept("-"):
            return Call("neg", (self.signed_factor(),))
        self.accept("+")
        return self.factor()

    def starts_unit(self, ahead: int) -> bool:
        """Returns whether a unit or a word is `ahead` tokens from here, or a unit's letter after a unit."""
        first, second = self.tokens[self.position + ahead :][:2]
        kind, value = second if first in (("op", "("), ("op", "{")) else first
        return kind in ("unit", "word") or (kind == "sym" and bool(self.unit) and is_unit(str(value)))

    def take_unit(self, sign: int) -> None:
        """Reads one unit with its power, or a bracket of them; words are kept as one label."""
        if opener := self.accept("(", "{"):
            while not self.accept(*CLOSERS[opener]):
                self.accept("*")
                sign = -sign if self.accept("/") else sign
                self.take_unit(sign)
            return
        kind, value = self.take()
        name, power = str(value), 1
        if kind not in ("unit", "word", "sym"):
            raise UnreadableError(f"expected a unit, found {value}")
        if name == "per":
            sign, (kind, value) = -1, self.take()
            name = str(value)
        if name in ("square", "cubic", "sq", "cu") and self.next[0] in ("unit", "word"):
            power = 2 if name.startswith("sq") else 3
            name = str(self.take()[1])
        if self.accept("^"):
            exponent = exact(self.exponent())
            if exponent is None or exponent.denominator != 1 or abs(exponent) > 99:
                raise UnreadableError("a unit's exponent is not a small integer")
            power = exponent.numerator
        elif self.next[1] in POWERS and is_unit(name):
            power = POWERS[str(self.take()[1])]
        is_labelled = bool(self.unit) and not is_unit(self.unit[-1][0]) and sign == 1
        if not is_unit(name) or (is_labelled and len(name) > 2):  # chocolate bars
            name = label_of(name)
            if is_labelled and self.unit[-1][1] == power == 1:
                name = f"{self.unit.pop()[0]} {name}"
        self.unit.append((name, sign * power))

    def mixed_number(self, whole: Node) -> Node:
        """Reads "3 1/2" in ASCII; two adjacent numbers mean nothing else."""
        match self.tokens[self.position : self.position + 3]:
            case [(_, Num() as numerator), ("op", "/"), (_, Num() as denominator)]:
                self.position += 3
                if (number := _mixed(whole, Call("/", (numerator, denominator)))) is not None:
                    return number
        raise UnreadableError("nothing connects two adjacent numbers")

    def starts_factor(self) -> bool:
        kind, value = self.next
        if kind == "op" and value == "|":
            return self.num_open_bars == 0 and not self.is_in_builder
        return kind in ("sym", "fn", "cmd") or (kind == "op" and value in OPENERS)

    def factor(self) -> Node:
        node = self.primary()
        while self.next[0] == "op":
            if self.accept("^"):
                node = self.power(node)
            elif operator := self.accept("!", "!!"):
                node = Call(operator, (_arithmetic(node),))
            elif not isinstance(node, Num) and self.accept("deg", "circ"):
                node = Call("deg", (_arithmetic(node),))
            elif self.accept("_"):
                node = self.subscripted(node)
            elif isinstance(node, Sym) and (mark := self.accept(*PRIMES)):
                node = Sym(node.name + mark)
            else:
                break
        return node

    def power(self, base: Node) -> Node:
        if self.accept("circ", "deg"):
            return self.with_sign("deg", base)
        return Call("^", (_arithmetic(base), _arithmetic(self.exponent())))

    def exponent(self) -> Node:
        if sign := self.accept("-", "+"):
            operand = self.exponent()
            return Call("neg", (operand,)) if sign == "-" else operand
        node = self.primary()
        if self.accept("^"):  # 2^3^2 is 2^(3^2) in ASCII
            node = Call("^", (_arithmetic(node), _arithmetic(self.exponent())))
        elif self.accept("!"):
            node = Call("!", (_arithmetic(node),))
        return node

    def subscripted(self, node: Node) -> Node:
        """Reads a subscript: it extends a symbol's name, and is a number's base."""
        if isinstance(node, Num):
            base = self.primary()
            if isinstance(base, Num):
                return Call("base", (node, base))
            raise UnreadableError("the base of a number is not a number")
        if not isinstance(node, Sym):
            raise UnreadableError("only a symbol or a number can have a subscript")
        name, depth = f"{node.name}_", -1
        while depth:
            if self.next == END:
                raise UnreadableError("a subscript is not closed")
            depth = max(depth, 0) + self.at("{") - (depth > 0 and self.at("}"))
            value = self.take()[1]
            name += str(value.value if isinstance(value, Num) else value).strip("{}")
        return Sym(name)

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
        if kind == "unit" and str(value) in CURRENCIES and self.next != END:
            self.unit.append((str(value), 1))
            return self.part()  # USD 84,000, USD -45
        if kind in ("word", "unit"):
            words = [str(value)]
            while self.next[0] == "word":
                words.append(str(self.take()[1]))
            return Words(" ".join(words))
        if kind == "op":
            return self.bracketed(str(value))
        raise UnreadableError(f"expected a value, found {value}")

    def symbol(self, name: str) -> Node:
        if name in CONSTANTS:
            return Sym(name)
        start, primed = self.position, name
        while name in FUNCTION_LETTERS and (mark := self.mark()):
            primed += mark
        if not self.at("("):
            self.position = start
            return Sym(name)
        self.take()
        is_argument = self.next[0] in ("num", "sym") and self.ahead == ("op", ")")
        items, _ = self.closed_items("(")
        if name in FUNCTION_LETTERS or is_argument or len(items) > 1:
            return Call(f"apply {primed}", tuple(items))
        self.position = start
        return Sym(name)

    def mark(self) -> str:
        """Takes and returns what marks a function before its argument: g''(3), f^{-1}(x), f^{(4)}(0)."""
        match self.tokens[self.position : self.position + 6]:
            case [("op", "^"), ("op", "{"), ("op", "-"), ("num", one), ("op", "}"), ("op", "(")]:
                if one == Num(Fraction(1)):
                    self.position += 5
                    return "^(-1)"
            case [("op", "^"), ("op", "{"), ("op", "("), (_, order), ("op", ")"), ("op", "}")]:
                self.position += 6
                return f"^({order.value if isinstance(order, Num) else order})"
        return self.accept(*PRIMES)

    def function(self, name: str) -> Node:
        subscript: Node | None = None
        exponent: Node | None = None
        while operator := self.accept("_", "^"):
            if operator == "_":
                subscript = self.primary()
            else:
                exponent = self.exponent()
        if name in ("min", "max") and self.at(":", "="):
            return Words(name)  # max: 9
        if name in ("min", "max", "gcd", "lcm"):
            self.expect("(")
            return Call(name, tuple(_arithmetic(item) for item in self.closed_items("(")[0]))
        argument = _arithmetic(self.argument())
        if exponent == Call("neg", (Num(Fraction(1)),)) and name in ("sin", "cos", "tan"):
            return Call(f"arc{name}", (argument,))
        if subscript is not None and name != "log":
            raise UnreadableError("a function other than log has a subscript")
        node = Call(name, (argument,) if subscript is None else (argument, subscript))
        return node if exponent is None else Call("^", (node, exponent))

    def argument(self) -> Node:
        """Reads a function's argument: x in sin(x)y, but all of 2x in \\sin 2x, up to a second function."""
        if opener := self.accept("(", "{", "["):
            node = self.bracketed(opener)
            while self.accept("deg"):
                node = Call("deg", (_arithmetic(node),))
            return node
        node = self.signed_factor()
        while self.starts_factor() and self.next[0] != "fn" and not self.at("("):
            node = Call("*", (_arithmetic(node), _arithmetic(self.factor())))
        if isinstance(node, Num | Sym) and self.ahead[0] == "num" and self.accept("/"):  # \sin \pi/3
            node = Call("/", (node, self.factor()))
        return node

    def command(self, name: str) -> Node:
        if name in TWO_PARTS:
            return Call(TWO_PARTS[name], (_arithmetic(self.part()), _arithmetic(self.part())))
        if name == "sqrt":
            index = (_arithmetic(self.bracketed("[")),) if self.accept("[") else ()
            return Call("root" if index else "sqrt", (_arithmetic(self.part()), *index))
        if name in ("sum", "prod"):
            return self.series(name)
        if name == "lim":
            return self.limit()
        if name.startswith("begin("):
            return self.matrix(name[len("begin(") : -1].strip("*"))
        raise UnreadableError(name)

    def part(self) -> Node:
        """Reads what a command applies to: a group, or the next primary alone (\\sqrt3, \\frac x2)."""
        if self.accept("-"):
            return Call("neg", (self.part(),))
        return self.primary()

    def series(self, name: str) -> Node:
        lower: Node | None = None
        upper: Node | None = None
        while operator := self.accept("_", "^"):
            if operator == "_":
                lower = self.bracketed(self.expect("{"))
            else:
                upper = self.exponent()
        if not isinstance(lower, Chain) or lower.ops != ("=",) or upper is None:
            raise UnreadableError("a series has no bounds")
        index, body = lower.sides[0], _arithmetic(self.product())
        if not isinstance(index, Sym):
            raise UnreadableError("the index of a series is not a symbol")
        is_opaque = any("_" in symbol for symbol in symbols_of(body))
        return Call(f"{OPAQUE} {name}" if is_opaque else name, (index, lower.sides[1], upper, body))

    def limit(self) -> Node:
        """Reads a limit, which equals only a limit of the same term at the same place."""
        self.expect("_")
        place = self.subscripted(Sym("lim"))
        return Call(f"{OPAQUE} {place}", (_arithmetic(self.product()),))

    def matrix(self, environment: str) -> Node:
        if environment not in MATRICES:
            raise UnreadableError(environment)
        rows: list[list[Node]] = [[]]
        while not self.accept("end"):
            if self.accept("newline"):
                rows.append([])
            elif not self.accept("&"):
                rows[-1].append(self.item())
        rows = [row for row in rows if row]
        if not rows or len({len(row) for row in rows}) != 1:
            raise UnreadableError("a matrix is empty, or its rows differ in length")
        return Matrix(tuple(map(tuple, rows)))

    def bracketed(self, opener: str) -> Node:
        if opener in ("(", "[", "{"):
            items, closer = self.closed_items(opener)
            return _single(items, opener, closer)
        if opener == "{set":
            return self.set_of()
        if opener == "|":
            self.num_open_bars += 1
            inner = self.sum()
            self.expect("|")
            self.num_open_bars -= 1
            return Call("abs", (_arithmetic(inner),))
        if opener == "dots":
            return Sym("dots")
        if opener in ("floor(", "ceil("):
            inner = self.sum()
            self.expect(opener[:-1] + ")")
            return Call(opener[:-1], (_arithmetic(inner),))
        raise UnreadableError(opener)

    def closed_items(self, opener: str) -> tuple[list[Node], str]:
        bars, self.num_open_bars = self.num_open_bars, 0
        unit = self.unit
        items = self.items(until=CLOSERS[opener])
        if items and (name := self.accept("binom", "over")):
            items = [Call("/" if name == "over" else name, (_arithmetic(items[-1]), _arithmetic(self.sum())))]
        closer = self.expect(*CLOSERS[opener])
        self.num_open_bars, self.unit = bars, unit
        return items, closer

    def set_of(self) -> Node:
        was_in_builder, self.is_in_builder = self.is_in_builder, True
        items, conditions, start = self.items(until=("set}", "|", ":")), None, self.position
        if self.accept("|", ":"):
            conditions = self.items(until=("set}",))
        self.is_in_builder = was_in_builder
        self.expect("set}")
        if conditions is not None:
            if ("sep", "or") in self.tokens[start : self.position]:
                conditions = [Listing(tuple(conditions))]  # any of them, where several hold together else
            return Builder(_single(items, "{set", "set}"), tuple(conditions))
        return SetOf(tuple(items)) if items else Sym("emptyset")
