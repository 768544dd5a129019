"""The fingerprint of a model's files."""

from pathlib import Path

from drsft.policy.prompts import model_location
from drsft.policy.provenance import model_fingerprint

MIB = 1 << 20


def model(folder: Path, weights: bytes = b"w" * (3 * MIB)) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return model_fingerprint(str(folder))


def test_equal_files_have_equal_fingerprints_wherever_they_lie(tmp_path: Path) -> None:
    assert model(tmp_path / "a") == model(tmp_path / "b" / "c")


def test_other_weights_names_or_sizes_change_it(tmp_path: Path) -> None:
    plain = model(tmp_path / "a")
    last_byte = model(tmp_path / "b", b"w" * (3 * MIB - 1) + b"v")
    longer = model(tmp_path / "c", b"w" * (3 * MIB + 1))
    (tmp_path / "a" / "tokenizer.json").write_text("{}")
    assert len({plain, last_byte, longer, model_fingerprint(str(tmp_path / "a"))}) == 4


def test_a_file_of_any_size_is_read(tmp_path: Path) -> None:
    sizes = (0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1)
    assert len({model(tmp_path / str(size), b"w" * size) for size in sizes}) == len(sizes)


def test_the_model_that_is_shipped_has_one_and_an_unknown_hub_name_has_none() -> None:
    assert len(model_fingerprint(model_location("embedded"))) == 16
    assert model_fingerprint("nobody/no-such-model") == ""
