r"""Parses tokens into a tree: a recursive-descent parser of answers, LaTeX and ASCII alike.

    answer  := item (sep item)*                      sep is , ; "and" "or", or nothing between two quantities
    item    := sets (relation sets)*
    sets    := ratio [unit] ((union | intersect | minus) ratio)*
    ratio   := sum (":" sum)*
    sum     := [sign] product ((+ | - | ±) product)*
    product := factor ((* | / | nothing) factor)* with % and ° after all of it
    factor  := primary with ^ ! ' and subscripts

It raises UnreadableError instead of guessing; the symbolic step is tried then. If LaTeX is ambiguous, it
takes the usual reading: 3\frac{1}{2} is a mixed number, 1/2x is (1/2)x, 25/2\% is 12.5 %, e is Euler's
number, a(b+c) is a product, f(x) an unknown function's value.
"""

from fractions import Fraction
from functools import lru_cache

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
from drsft.verify.maths.tokens import PRIMES, Token, UnreadableError, tokenize
from drsft.verify.maths.units import CURRENCIES, is_unit, label_of

__all__ = ["OPAQUE", "UNIT_LETTERS", "parse"]

MAX_TOKENS = 2_000
MAX_DEPTH = 50
END: Token = ("end", "")
RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "in", "approx", "equiv"})
SET_OPERATORS = frozenset({"union", "intersect", "minus"})
FILLER = frozenset({"approximately", "just", "about", "exactly", "roughly", "is", "the", "answer"})
CLOSERS = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "{set": ("set}",)}
MATRICES = ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array")
FUNCTION_LETTERS = frozenset("fghFGHPQE")
CONSTANTS = frozenset({"pi", "e", "i", "inf"})
UNIT_LETTERS = frozenset("msgNJWVAKLhCZT")
OPAQUE = "apply series"  # a value that is only known to be equal for equal parts


@lru_cache(maxsize=4096)  # a reference comes back for every one of its problem's samples
def parse(text: str, *, grouped: bool = True) -> Node:
    """Returns the tree of a cleaned text. Raises UnreadableError. `grouped` is passed to `tokenize`."""
    tokens = tokenize(text, grouped=grouped)
    if len(tokens) > MAX_TOKENS:
        raise UnreadableError("too long")
    if not tokens:
        raise UnreadableError("empty")
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


def _is_inverse(tokens: list[Token]) -> bool:
    """Returns whether the tokens are the "{-1}(" of f^{-1}(x)."""
    return tokens == [("op", "{"), ("op", "-"), ("num", Num(Fraction(1))), ("op", "}"), ("op", "(")]


def _single(items: list[Node], opener: str, closer: str) -> Node:
    """Returns a single item instead of matching brackets around it."""
    if not items:
        raise UnreadableError("empty brackets")
    is_matching = (opener, closer) not in (("(", "]"), ("[", ")"))
    if len(items) == 1 and is_matching:
        item = items[0]
        if isinstance(item, Quantity) and any(len(name) == 1 for name, _ in item.unit):
            raise UnreadableError("a letter that is no unit")  # \\frac{3 m}{2} - 1
        return item.value if isinstance(item, Quantity) else item
    if opener in ("{", "{set"):
        return Seq(tuple(items), "", "")
    return Seq(tuple(items), opener, closer)


def _arithmetic(node: Node) -> Node:
    """Returns the node if it is a number; vectors, intervals and words are left to the symbolic step."""
    if isinstance(node, Quantity):
        return node.value
    if isinstance(node, Num | Sym | Call):
        return node
    raise UnreadableError("arithmetic on a structure")


def _mixed(whole: Node, part: Node) -> Node | None:
    """Returns the mixed number of a whole number and a proper fraction of whole numbers: 3\\frac{1}{2}."""
    if not (isinstance(whole, Num) and whole.places is None and whole.value.denominator == 1):
        return None
    if not (isinstance(part, Call) and part.name == "/"):
        return None
    numerator, denominator = part.args
    if not (isinstance(numerator, Num) and isinstance(denominator, Num)):
        return None
    if numerator.places is not None or denominator.places is not None or not denominator.value:
        return None
    if not 0 < numerator.value < denominator.value:
        return None
    return Num(whole.value + numerator.value / denominator.value)


class _Parser:
    """The tokens with a position, and the state between them."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.num_open_bars = 0
        self.unit: list[tuple[str, int]] = []
        self.is_in_builder = False  # inside \\{x : ...\\}, where ":" is "such that"

    @property
    def next(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else END

    def take(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def at(self, *operators: str) -> bool:
        kind, value = self.next
        return kind == "op" and value in operators

    def expect(self, *operators: str) -> str:
        if not self.at(*operators):
            raise UnreadableError(f"expected {operators[0]}")
        return str(self.take()[1])

    def answer(self) -> Node:
        items = self.items(until=())
        if self.next != END:
            raise UnreadableError(f"left over {self.next[1]}")
        if not items:
            raise UnreadableError("empty")
        return items[0] if len(items) == 1 else Listing(tuple(items))

    def items(self, until: tuple[str, ...]) -> list[Node]:
        items: list[Node] = []
        is_joined = False
        while self.next != END and not self.at(*until):
            if self.next[0] == "sep":
                self.take()
                continue
            items.append(self.item())
            # "5 feet 8 inches", "8 nickels 3 pennies": one quantity after the other
            last = items[-1]
            is_quantity = (
                isinstance(last, Quantity)
                and self.next[0] == "num"
                and not any(" " in name for name, _ in last.unit)  # "38 people saw fewer than 3 whales"
            )
            if is_joined and not isinstance(items[-1], Quantity):
                raise UnreadableError("two values side by side")
            is_joined = is_quantity
            if self.next[0] != "sep" and not is_quantity:
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
        self.unit = []
        while self.next[0] == "word" and self.next[1] in FILLER and self.position + 1 < len(self.tokens):
            self.take()
        node = self.with_unit(self.ratio())
        while self.at(*SET_OPERATORS):
            operator = str(self.take()[1])
            node = Call(operator, (node, self.with_unit(self.ratio())))
        return node

    def with_unit(self, node: Node) -> Node:
        if not self.unit or isinstance(node, Words):
            return node
        powers: dict[str, int] = {}
        for name, power in self.unit:
            powers[name] = powers.get(name, 0) + power
        self.unit = []
        unit = tuple((name, power) for name, power in powers.items() if power)
        return Quantity(node, unit) if unit else node

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.at(":") and not self.is_in_builder:
            self.take()
            parts.append(self.sum())
        if len(parts) == 2 and isinstance(parts[0], Words):
            return Chain((parts[0], self.with_unit(parts[1])), ("=",))  # adults: 14
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
            node = Call(sign, (_arithmetic(node), _arithmetic(self.product())))
        if self.at("mod"):
            self.take()
            node = Call("mod", (node, self.factor()))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.factor()
        while True:
            kind, value = self.next
            if kind == "op" and value in ("%", "deg", "circ"):
                self.take()
                node = self.with_sign("%" if value == "%" else "deg", node)
            elif kind == "unit" or (kind == "word" and value not in ("and", "or")):
                self.take_unit(1)
            elif self.at("/") and self.starts_unit(1):
                self.take()
                self.take_unit(-1)
            elif self.at("*") and self.unit and self.starts_unit(1):
                self.take()
                self.take_unit(1)
            elif kind == "op" and value in ("*", "/"):
                self.take()
                node = self.applied(str(value), node, self.signed_factor())
            elif self.at("(") and isinstance(node, Num) and self.take_note():
                continue
            elif self.tokens[self.position : self.position + 3] == [("op", "("), ("op", "deg"), ("op", ")")]:
                self.position += 3  # 24 (degrees)
                node = Call("deg", (_arithmetic(node),))
            elif kind == "cmd" and value == "frac" and self.starts_unit(1):
                self.take_unit_fraction()
            elif self.unit and kind in ("num", "sym"):
                return node  # the next quantity
            elif kind == "num" and self.tokens[self.position - 1] in (("op", ")"), ("op", "}")):
                node = Call("*", (_arithmetic(node), _arithmetic(self.factor())))  # (n-2) 2^n
            elif kind == "num" and self.tokens[self.position + 1 : self.position + 2] == [("op", "^")]:
                node = Call("*", (_arithmetic(node), _arithmetic(self.factor())))  # 4.37 10^-6
            elif kind == "num":
                node = self.mixed_number(node)
            elif self.starts_factor():
                right = self.factor()
                node = _mixed(node, right) or self.applied("*", node, right)
            else:
                return node

    def with_sign(self, sign: str, node: Node) -> Node:
        """Applies percent or degrees to everything before it.

        A degree sign before C or F is a temperature's.
        """
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
        if self.at("-"):
            self.take()
            return Call("neg", (self.signed_factor(),))
        if self.at("+"):
            self.take()
        return self.factor()

    def starts_unit(self, ahead: int) -> bool:
        """Returns whether a unit or a word is `ahead` tokens from here, or a unit's letter after a unit."""
        tokens = list(self.tokens[self.position + ahead : self.position + ahead + 2])
        if tokens and tokens[0] in (("op", "("), ("op", "{")):
            tokens = tokens[1:]
        if not tokens:
            return False
        kind, value = tokens[0]
        return kind in ("unit", "word") or (kind == "sym" and bool(self.unit) and is_unit(str(value)))

    def take_unit_fraction(self) -> None:
        self.take()
        self.take_unit(1)
        self.take_unit(-1)

    def take_unit(self, sign: int) -> None:
        """Reads one unit with its power, or a bracket of them; words are kept as one label."""
        if self.at("(", "{"):
            closer = {"(": ")", "{": "}"}[str(self.take()[1])]
            while not self.at(closer):
                if self.at("*"):
                    self.take()
                if self.at("/"):
                    self.take()
                    sign = -sign
                self.take_unit(sign)
            self.take()
            return
        kind, value = self.take()
        name, power = str(value), 1
        if kind not in ("unit", "word", "sym"):
            raise UnreadableError("a unit")
        if name == "per":
            sign, (kind, value) = -1, self.take()
            name = str(value)
        if name in ("square", "cubic", "sq", "cu") and self.next[0] in ("unit", "word"):
            power = 2 if name.startswith("sq") else 3
            name = str(self.take()[1])
        if self.at("^"):
            self.take()
            exponent = self.exponent()
            is_negative = isinstance(exponent, Call) and exponent.name == "neg"
            number = exponent.args[0] if isinstance(exponent, Call) and is_negative else exponent
            if not isinstance(number, Num) or number.value.denominator != 1 or number.value > 99:
                raise UnreadableError("exponent of a unit")
            power = -number.value.numerator if is_negative else number.value.numerator
        is_labelled = bool(self.unit) and not is_unit(self.unit[-1][0]) and sign == 1
        if not is_unit(name) or (is_labelled and len(name) > 2):  # chocolate bars
            name = label_of(name)
            if is_labelled and self.unit[-1][1] == power == 1:
                name = f"{self.unit.pop()[0]} {name}"
        self.unit.append((name, sign * power))

    def take_note(self) -> bool:
        """Reads what is counted in brackets after a number, as in "23 (marbles)" or "41 (km)"."""
        end = self.position + 1
        while end < len(self.tokens) and self.tokens[end] != ("op", ")"):
            end += 1
        inside = self.tokens[self.position + 1 : end]
        letters = [str(value) for token, value in inside if token == "sym"]
        is_rate = ("op", "/") in inside and all(
            kind in ("sym", "num") or value in ("/", "^") for kind, value in inside
        )
        is_note = any(kind in ("word", "unit") for kind, _ in inside) or (
            bool(letters) and UNIT_LETTERS.issuperset(letters) and (len(inside) == 1 or is_rate)
        )
        if not is_note or any(kind in ("num", "fn", "cmd", "sep") for kind, _ in inside[:1]):
            return False
        self.take()
        while not self.at(")"):
            if self.next == END:
                raise UnreadableError("unclosed note")
            if self.next[0] in ("word", "unit", "sym"):
                self.take_unit(1)
            elif self.at("/"):
                self.take()
                self.take_unit(-1)
            else:
                self.take()
        self.take()
        return True

    def mixed_number(self, whole: Node) -> Node:
        """Reads "3 1/2" in ASCII; two adjacent numbers mean nothing else."""
        numerator = self.take()[1]
        if self.at("/"):
            self.take()
            denominator = self.take()[1]
            if isinstance(numerator, Num) and isinstance(denominator, Num) and denominator.value:
                part = Call("/", (numerator, denominator))
                if (number := _mixed(whole, part)) is not None:
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

    def factor(self) -> Node:
        node = self.primary()
        while self.next[0] == "op":
            operator = self.next[1]
            if operator == "^":
                self.take()
                node = self.power(node)
            elif operator in ("!", "!!"):
                self.take()
                node = Call(str(operator), (_arithmetic(node),))
            elif operator in ("deg", "circ") and not isinstance(node, Num):
                self.take()
                node = Call("deg", (_arithmetic(node),))
            elif operator == "_":
                self.take()
                node = self.subscripted(node)
            elif self.next in PRIMES and isinstance(node, Sym):
                node = Sym(node.name + str(self.take()[1]))
            else:
                break
        return node

    def power(self, base: Node) -> Node:
        if self.at("circ", "deg"):
            self.take()
            return self.with_sign("deg", base)
        if self.next in PRIMES and isinstance(base, Sym):
            return Sym(base.name + str(self.take()[1]))
        return Call("^", (_arithmetic(base), _arithmetic(self.exponent())))

    def exponent(self) -> Node:
        if self.at("-", "+"):
            sign = self.take()[1]
            operand = self.exponent()
            return Call("neg", (operand,)) if sign == "-" else operand
        node = self.primary()
        if self.at("^"):  # 2^3^2 is 2^(3^2) in ASCII
            self.take()
            node = Call("^", (_arithmetic(node), _arithmetic(self.exponent())))
        elif self.at("!"):
            self.take()
            node = Call("!", (_arithmetic(node),))
        return node

    def subscripted(self, node: Node) -> Node:
        """Reads a subscript: it extends a symbol's name, and is a number's base."""
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
        raise UnreadableError(f"expected a value, not {value}")

    def symbol(self, name: str) -> Node:
        if name in CONSTANTS:
            return Sym(name)
        start, primed = self.position, name
        while (self.next in PRIMES or self.at("^")) and name in FUNCTION_LETTERS:  # g''(3), f^{(4)}(0)
            if (mark := str(self.take()[1])) != "^" or self.next in PRIMES:
                primed += mark if mark != "^" else str(self.take()[1])
                continue
            if _is_inverse(self.tokens[self.position : self.position + 5]):
                primed, self.position = f"{primed}^(-1)", self.position + 4
                continue
            order = self.tokens[self.position : self.position + 5]
            if [token for token in order if token[0] == "op"] != [("op", c) for c in "{()}"] or len(
                order
            ) < 5:
                break
            primed += f"^({order[2][1].value if isinstance(order[2][1], Num) else order[2][1]})"
            self.position += 5
        if not self.at("("):
            self.position = start
            return Sym(name)
        inside = self.tokens[self.position + 1 : self.position + 3]
        is_argument = len(inside) == 2 and inside[1] == ("op", ")") and inside[0][0] in ("num", "sym")
        if name in FUNCTION_LETTERS or is_argument:
            self.take()
            return Call(f"apply {primed}", tuple(self.closed_items("(")[0]))
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
        if name in ("min", "max") and self.at(":", "="):
            return Words(name)  # max: 9
        if name in ("min", "max", "gcd", "lcm"):
            self.expect("(")
            return Call(name, tuple(_arithmetic(item) for item in self.closed_items("(")[0]))
        argument = _arithmetic(self.argument())
        if exponent == Call("neg", (Num(Fraction(1)),)) and name in ("sin", "cos", "tan"):
            return Call(f"arc{name}", (argument,))
        if subscript is not None and name != "log":
            raise UnreadableError("subscript of a function")
        node = Call(name, (argument,) if subscript is None else (argument, subscript))
        return node if exponent is None else Call("^", (node, exponent))

    def argument(self) -> Node:
        """Reads a function's argument: x in sin(x)y, but all of 2x in \\sin 2x, up to a second function."""
        if self.at("(", "{", "["):
            opener = str(self.take()[1])
            items, closer = self.closed_items(opener)
            node = _single(items, opener, closer)
            while self.at("deg"):
                self.take()
                node = Call("deg", (_arithmetic(node),))
            return node
        node = self.signed_factor()
        while self.starts_factor() and self.next[0] != "fn" and not self.at("("):
            node = Call("*", (_arithmetic(node), _arithmetic(self.factor())))
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

    def command(self, name: str) -> Node:
        if name == "frac":
            return Call("/", (_arithmetic(self.part()), _arithmetic(self.part())))
        if name == "sqrt":
            if self.at("["):
                self.take()
                index = _single(self.closed_items("[")[0], "[", "]")
                return Call("root", (_arithmetic(self.part()), _arithmetic(index)))
            return Call("sqrt", (_arithmetic(self.part()),))
        if name in ("binom", "tbinom", "dbinom"):
            return Call("binom", (_arithmetic(self.part()), _arithmetic(self.part())))
        if name in ("sum", "prod"):
            return self.series(name)
        if name == "lim":
            return self.limit()
        if name.startswith("begin("):
            return self.matrix(name[len("begin(") : -1].strip("*"))
        raise UnreadableError(name)

    def part(self) -> Node:
        """Reads what a command applies to: a group, or the next primary alone (\\sqrt3, \\frac x2)."""
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
                lower = _single(self.closed_items("{")[0], "{", "}")
            else:
                upper = self.exponent()
        if not isinstance(lower, Chain) or lower.ops != ("=",) or upper is None:
            raise UnreadableError("series without bounds")
        index, body = lower.sides[0], _arithmetic(self.product())
        if not isinstance(index, Sym):
            raise UnreadableError("index of a series")
        if any("_" in name for name in symbols_of(body)):
            return Call(f"{OPAQUE} {name}", (index, lower.sides[1], upper, body))
        return Call(name, (index, lower.sides[1], upper, body))

    def limit(self) -> Node:
        """Reads a limit, which equals only a limit of the same term at the same place."""
        self.expect("_")
        place = self.subscripted(Sym("lim"))
        return Call(f"{OPAQUE} {place}", (_arithmetic(self.product()),))

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
        return Matrix(tuple(rows))

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
        if items and self.next[0] == "cmd" and self.next[1] in ("choose", "over"):
            name = "binom" if self.take()[1] == "choose" else "/"
            items = [Call(name, (_arithmetic(items[-1]), _arithmetic(self.sum())))]
        closer = self.expect(*CLOSERS[opener])
        self.num_open_bars, self.unit = bars, unit
        return items, closer

    def set_of(self) -> Node:
        was_in_builder, self.is_in_builder = self.is_in_builder, True
        items = self.items(until=("set}", "|", ":"))
        if self.at("|", ":"):
            self.take()
            start = self.position
            conditions = self.items(until=("set}",))
            if ("sep", "or") in self.tokens[start : self.position]:
                conditions = [Listing(tuple(conditions))]  # any of them, where several hold together else
            self.expect("set}")
            self.is_in_builder = was_in_builder
            return Builder(_single(items, "{set", "set}"), tuple(conditions))
        self.is_in_builder = was_in_builder
        self.expect("set}")
        return SetOf(tuple(items)) if items else Sym("emptyset")
