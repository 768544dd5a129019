"""Charts as files: whole documents with real colours, the same charts as the page's."""

import re
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from drsft.report.charts.files import draw_plots, write_plots
from tests.report.test_report import EMPTY
from tests.support.report_sample import sample_report

SVG = "{http://www.w3.org/2000/svg}"


def test_every_chart_becomes_a_document_with_its_colours_inside() -> None:
    plots = draw_plots(sample_report())
    assert list(plots) == [
        "scores-held-out", "flow", "verdicts", "grounding", "gap-logprob", "gap-phi", "effective-samples",
        "training", "probabilities",
    ]  # fmt: skip
    for svg in plots.values():
        root = ElementTree.fromstring(svg)
        assert root.tag == f"{SVG}svg"
        assert float(root.attrib["width"]) == 600
        assert "var(" not in svg
        assert not re.search(r"url\(|href|@import", svg)


def test_every_shape_has_a_colour() -> None:
    """Its classes must meet a rule that paints it and, where that has no colour of its own, one that has."""
    for name, svg in draw_plots(sample_report()).items():
        rules = re.findall(r"([^{}]+)\{([^}]+)\}", re.search(r"<style>(.*?)</style>", svg, re.DOTALL)[1])  # type: ignore[index]

        def classes_of(pattern: str, rules: list[tuple[str, str]] = rules) -> list[set[str]]:
            """The classes that each selector asks for, of the rules whose body matches."""
            selectors = [
                one for all_of, body in rules if re.search(pattern, body) for one in all_of.split(",")
            ]
            return [wanted for one in selectors if (wanted := set(re.findall(r"[.]([\w-]+)", one)))]

        of_its_own, shared = classes_of("(fill|stroke): #"), classes_of("(fill|stroke): currentColor")
        colours = classes_of(" color: #")
        for shape in ElementTree.fromstring(svg).iter():
            if shape.tag in {f"{SVG}{tag}" for tag in ("path", "rect", "circle", "line")}:
                classes = set(shape.get("class", "").split())
                meets = [any(wanted <= classes for wanted in some) for some in (of_its_own, shared, colours)]
                assert (meets[1] and meets[2]) or (meets[0] and not meets[1]), (name, classes)


def test_a_run_without_charts_gives_no_files() -> None:
    assert draw_plots(EMPTY) == {}


def test_pictures_are_drawn_as_large_as_a_paper_wants(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="resvg is missing: pip install resvg-py")
    paths = list(write_plots(sample_report(), tmp_path / "figures"))
    assert len(paths) == 18
    for path in paths[1::2]:
        data = path.read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert width == 1800
        assert len(data) > 0.002 * width * height, "an empty picture packs to nearly nothing"
