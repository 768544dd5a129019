"""docs/configuration.md is what the settings say."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from drsft.config import RunConfig
from drsft.config.reference import reference
from serve.settings import ServeConfig

PAGE = Path(__file__).parents[2] / "docs/configuration.md"


class Inner(BaseModel):
    """What it is for."""

    share: float = Field(0.5, ge=0, lt=1, description="of a | b")
    names: tuple[str, ...] = ("x",)


class Root(BaseModel):
    kind: Literal["a", "b"]
    inner: Inner | None = None


def test_the_page_is_current() -> None:
    current = reference({"Configuration of a run": RunConfig, "Configuration of the service": ServeConfig})
    assert PAGE.read_text() == current, "write it again: drsft config > docs/configuration.md"


def test_types_bounds_defaults_and_meanings_are_told() -> None:
    page = reference({"Test": Root})
    assert "| `kind` | `a`, `b` | **needed** |  |" in page
    assert "| `inner` | [Inner](#inner) or null | `null` |  |" in page
    assert "## Inner\n\n`inner`\n\nWhat it is for." in page
    assert "| `share` | number, ≥ 0 and < 1 | `0.5` | of a \\| b |" in page
    assert '| `names` | list of text | `["x"]` |  |' in page
