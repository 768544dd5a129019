"""Writes the model card of an export: the base model, the data and the settings, so that it can be
reproduced.
"""

import json
from typing import Any

from drsft import __version__
from drsft.train.job import Training

__all__ = ["model_card"]


def model_card(training: Training, *, final: dict[str, Any]) -> str:
    """Returns Markdown with the front matter that the Hugging Face hub reads.

    `final` is the last step's metrics.
    """
    arm, rows, target = training.job.arm, training.rows, training.target.location
    trained_on = f"{len(rows.problem_ids):,} {arm.data} texts in {len(rows):,} rows"
    settings = training.settings.model_dump(
        mode="json", exclude={"arms", "seeds", "trackers"}, exclude_none=True
    )
    shown = ("step", "loss", "ce", "mean_p", "entropy", "validation_ce", "validation_accuracy")
    figures = "\n".join(f"| {name} | {final[name]:.6g} |" for name in shown if name in final)
    return f"""---
base_model: {json.dumps(target)}
library_name: transformers
pipeline_tag: text-generation
tags: [drsft, {arm.objective.kind}]
---

# {arm.name}, seed {training.job.seed}

Trained with drsft {__version__} from `{target}` on {trained_on}.

| last step | |
|---|---|
{figures}

Objective:

```json
{json.dumps(arm.model_dump(mode="json"), indent=1)}
```

Training:

```json
{json.dumps(settings, indent=1)}
```
"""
