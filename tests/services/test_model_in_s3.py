"""A model that lies in S3, as the export of a round does, is fetched whole and loads like any folder."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from drsft.config import Prompts
from drsft.errors import ModelError
from drsft.policy.prompts import load_prompter, model_location
from drsft.storage import open_store, upload_folder
from drsft.train.model import load_model

pytestmark = pytest.mark.services


def test_a_model_in_s3_loads_like_a_folder(object_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    url = f"{object_store.url}/{uuid.uuid4().hex}"
    with pytest.raises(ModelError, match="no object there"):
        model_location(f"{url}/export")
    local = Path(model_location("embedded"))
    upload_folder(open_store(url), local, "train/export")
    fetched = Path(model_location(f"{url}/train/export"))
    files = {path.name: path.read_bytes() for path in local.iterdir() if path.is_file()}
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == files
    prompts = Prompts(plain="{question}")
    prompter = load_prompter(f"{url}/train/export", prompts)
    assert prompter.completion("two") == load_prompter("embedded", prompts).completion("two")
    assert load_model(str(fetched)).num_parameters() == load_model(str(local)).num_parameters()
