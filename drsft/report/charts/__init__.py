"""Static SVG charts: no script, no network, readable in light, dark and print.

Shapes carry CSS classes only; the page's style sheet gives them their colours. Every chart is drawn once for
each width in WIDTHS and the style sheet shows the one that fits, so text keeps its size on a phone.
"""

__all__ = ["WIDTHS"]

WIDTHS = {"wide": 920.0, "medium": 600.0, "narrow": 340.0}
