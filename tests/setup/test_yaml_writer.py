"""What is written reads as the same tree, whatever its texts hold."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from drsft.config.yamlfile import read_yaml
from drsft.setup.yaml_writer import commented_yaml

KEYS = st.text("abcdefgh_", min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=200)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None)
@given(tree=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), comment=st.text(max_size=150))
def test_reading_gives_the_tree_back(tree: dict[str, Any], comment: str) -> None:
    comments = {
        f"{key}.{inner}": comment for key, value in tree.items() if isinstance(value, dict) for inner in value
    }
    comments |= dict.fromkeys(tree, comment)
    assert read_yaml(commented_yaml(tree, comments, head="made by a test")) == tree


def test_reasons_stand_beside_their_values() -> None:
    text = commented_yaml({"a": {"b": 1, "c": [1, 2]}}, {"a.b": "one is enough"}, head="head")
    assert text == "# head\n\na:\n  b: 1  # one is enough\n  c: [1, 2]\n"
