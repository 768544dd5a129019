"""What the service does not do is refused in its configuration, not passed over."""

from typing import Any

import pytest
from pydantic import ValidationError

from serve.settings import ServeConfig
from tests.support.serve import SETTINGS


@pytest.mark.parametrize(
    "rewrite", [{"stop_beaten": True}, {"selection": "closest"}, {"method": "hinted"}], ids=str
)
def test_a_recipe_that_the_service_cannot_follow_is_named(rewrite: dict[str, Any]) -> None:
    [field] = rewrite
    with pytest.raises(ValidationError, match=f"rewrite.{field}"):
        ServeConfig.model_validate({**SETTINGS, "rewrite": {**SETTINGS["rewrite"], **rewrite}})
