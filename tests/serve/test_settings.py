"""The service follows its configuration, and one that it cannot follow is rejected."""

from typing import Any

import pytest
from pydantic import ValidationError

from drsft.records import Outcome, Problem
from serve.app import service_verifier
from serve.settings import ServeConfig
from tests.support.serve import SETTINGS


@pytest.mark.parametrize(
    "rewrite", [{"stop_beaten": True}, {"selection": "closest"}, {"method": "hinted"}], ids=str
)
def test_a_recipe_that_the_service_cannot_follow_is_named(rewrite: dict[str, Any]) -> None:
    [field] = rewrite
    with pytest.raises(ValidationError, match=f"rewrite.{field}"):
        ServeConfig.model_validate({**SETTINGS, "rewrite": {**SETTINGS["rewrite"], **rewrite}})


@pytest.mark.parametrize(("require_box", "outcome"), [(False, Outcome.CORRECT), (True, Outcome.NO_ANSWER)])
async def test_the_service_judges_by_its_settings(require_box: bool, outcome: Outcome) -> None:
    verification = {"require_box": require_box}
    config = ServeConfig.model_validate(
        {**SETTINGS, "rewrite": {**SETTINGS["rewrite"], "verification": verification}}
    )
    problem = Problem(problem_id="p", question="1 + 1?", demonstration="", reference="2")
    with service_verifier(config) as verifier:
        assert (await verifier.judge(problem, "The answer is 2.")).outcome is outcome
