"""The GPU's benchmark runs at toy size on the CPU, so that it works where there is a GPU."""

import json
from pathlib import Path

import pytest

from tests.studies.gpu_loss import main


def test_it_measures_losses_and_steps(tmp_path: Path) -> None:
    found = main(["--toy", "--out", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text()) == found
    (loss,) = found["losses"]
    assert loss["side"] == "drsft, with entropy"
    assert 0 < loss["loss"] < 1 / 2.718, "DFT's loss −p log p is at most 1/e a token"
    (step,) = found["steps"]
    assert step["tokens_per_step"] == 64
    assert step["parameters"] == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 32 * 512
    assert step["tokens_per_s"] > 0
    assert step["flops_share_of_matmul_rate"] > 0


def test_without_a_gpu_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "--toy" in capsys.readouterr().err
