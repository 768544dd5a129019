"""Draws static SVG charts: no script, no network, readable in light, dark and print.

Shapes carry CSS classes only; the page's style sheet gives them their colours. Every chart is drawn once for
each width in drawing.WIDTHS and the style sheet shows the one that fits, so text keeps its size on a phone.
docs/benchmarks.md compares plotting libraries with this.
"""
