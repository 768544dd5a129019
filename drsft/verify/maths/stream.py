"""A stream of tokens, and what both halves of the reader need of trees."""

from drsft.verify.maths.lexer import Token, UnreadableError
from drsft.verify.maths.syntax import Call, Node, Num, Quantity, Seq, Sym

__all__ = ["END", "TokenStream", "arithmetic", "mixed", "single"]

END: Token = ("end", "")


class TokenStream:
    """Tokens with a position, and the reader's state between them."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.num_open_bars = 0
        self.unit = ""
        self.is_in_builder = False  # inside \{x : ...\}, where ":" is "such that"

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


def single(items: list[Node], opener: str, closer: str) -> Node:
    """One item in matching brackets is that item."""
    if not items:
        raise UnreadableError("empty brackets")
    is_matching = (opener, closer) not in (("(", "]"), ("[", ")"))
    if len(items) == 1 and is_matching:
        item = items[0]
        return item.value if isinstance(item, Quantity) else item
    if opener in ("{", "{set"):
        return Seq(tuple(items), "", "")
    return Seq(tuple(items), opener, closer)


def arithmetic(node: Node) -> Node:
    """Only numbers enter arithmetic; vectors, intervals and words are left to the symbolic step."""
    if isinstance(node, Quantity):
        return node.value
    if isinstance(node, Num | Sym | Call):
        return node
    raise UnreadableError("arithmetic on a structure")


def mixed(whole: Node, part: Node) -> Node | None:
    """3\\frac{1}{2}: a whole number before a proper fraction of whole numbers."""
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
