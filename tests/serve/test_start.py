"""What `drsft serve` refuses before it starts anything."""

import socket
from pathlib import Path

import pytest

from drsft.errors import ModelError
from serve.ray.local import serve_here
from serve.settings import ServeConfig
from tests.support.templates import model_folder


def test_a_template_that_cannot_be_trained_is_refused_before_ray_starts(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "{{ messages[0].content }}<|im_end|>", markers=())
    config = ServeConfig.model_validate(
        {"target": {"model": str(folder)}, "access": {"open_on_loopback": True}}
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError, match=r"set target\.chat_template"):
        serve_here(config, host="127.0.0.1", port=port)
