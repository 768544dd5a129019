"""A small SVG canvas that escapes every text."""

from collections.abc import Callable, Sequence

from markupsafe import Markup

__all__ = ["FONT_SIZE", "NARROW", "WIDTHS", "Drawing", "Point", "at_all_widths", "text_width"]

FONT_SIZE = 13.0
WIDTHS = {"wide": 920.0, "medium": 600.0, "narrow": 340.0}
NARROW = 500.0  # below this width names stand above their rows and axes have fewer ticks
Point = tuple[float, float]


def text_width(text: str) -> float:
    """Returns an upper estimate of a text's width in CSS pixels; there is no font to measure it with."""
    return 0.58 * FONT_SIZE * len(text)


def at_all_widths(draw: Callable[..., "Drawing"], *data: object) -> Markup:
    """Returns the chart as one <svg> element per width of WIDTHS; the style sheet shows the one that fits."""
    return Markup("\n").join(
        draw(*data, width=width).markup(f'class="chart {name}"') for name, width in WIDTHS.items()
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Drawing:
    """Shapes in drawing order; coordinates in CSS pixels from the top left."""

    def __init__(self, width: float, height: float, *, label: str) -> None:
        self.width, self.height, self.label = width, height, label
        self.shapes: list[Markup] = []

    def _add(self, tag: str, css: str, tip: str = "", **attributes: float | str) -> None:
        values = Markup("").join(
            Markup(' {}="{}"').format(name, value if isinstance(value, str) else _number(value))
            for name, value in attributes.items()
        )
        inside = Markup("<title>{}</title>").format(tip) if tip else ""
        self.shapes.append(Markup('<{} class="{}"{}>{}</{}>').format(tag, css, values, inside, tag))

    def line(self, start: Point, end: Point, css: str) -> None:
        self._add("line", css, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def rect(self, x: float, y: float, width: float, height: float, css: str, *, tip: str = "") -> None:
        self._add("rect", css, tip, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0))

    def circle(self, centre: Point, radius: float, css: str, *, tip: str = "") -> None:
        self._add("circle", css, tip, cx=centre[0], cy=centre[1], r=radius)

    def path(self, d: str, css: str, *, tip: str = "") -> None:
        self._add("path", css, tip, d=d)

    def polyline(self, points: Sequence[Point], css: str, *, tip: str = "", closed: bool = False) -> None:
        steps = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self.path(f"M{steps}{'Z' if closed else ''}", css, tip=tip)

    def text(self, x: float, y: float, text: str, css: str = "", *, anchor: str = "start") -> None:
        self.shapes.append(
            Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                css, _number(x), _number(y), anchor, text
            )
        )

    def markup(self, attributes: str) -> Markup:
        """Returns the whole <svg> element; `attributes` are inserted as they are, without escaping."""
        size = f"0 0 {_number(self.width)} {_number(self.height)}"
        return Markup('<svg {} viewBox="{}" role="img" aria-label="{}">{}</svg>').format(
            Markup(attributes), size, self.label, Markup("").join(self.shapes)
        )
