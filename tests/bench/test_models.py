"""Every bench takes one of drsft's own models or a folder."""

import json
from pathlib import Path

import pytest

from drsft.bench.models import bench_model
from drsft.bench.rewriting import orchestration
from drsft.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "bfloat16"),
        ({"torch_dtype": "float32"}, "float32"),
        ({}, "float32"),
    ],
)
def test_a_folder_is_used_in_the_precision_of_its_weights(
    tmp_path: Path, config: dict[str, str], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    use = bench_model("model", tmp_path)
    assert use.dtype == dtype
    assert Path(use.location).is_absolute(), "sides run in folders of their own"


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no readable config\.json; give random, embedded or a model's folder"
    ) as error:
        bench_model(str(tmp_path), tmp_path)
    assert "\n" not in str(error.value)


def test_the_script_of_every_peer_is_there() -> None:
    assert orchestration.PEER_SCRIPT.is_file()
