"""distilabel's side of `drsft bench orchestration`; runs in a Python that has distilabel, without drsft.

    python -P peer_distilabel.py NUM_PROBLEMS BATCH_SIZE

A pipeline of two steps: rows from memory, and a text generation task with an LLM that answers at once with
four texts. Nothing is verified. Prints one JSON line {"num_problems", "seconds"} of the whole run.
"""

import json
import sys
import time

from distilabel.models.llms.base import LLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

NUM_SAMPLES = 4


class InstantLLM(LLM):  # type: ignore[misc]
    @property
    def model_name(self) -> str:
        return "instant"

    def generate(self, inputs, num_generations=1):  # type: ignore[no-untyped-def]
        statistics = {"input_tokens": [1] * num_generations, "output_tokens": [1] * num_generations}
        texts = ["43+46=89;89-7=82;\\boxed{82}"] * num_generations
        return [{"generations": texts, "statistics": statistics} for _ in inputs]


def main() -> None:
    num_problems, batch_size = map(int, sys.argv[1:])
    rows = [{"instruction": f"Ann has 43 cups, gets 46. How many? ({n})"} for n in range(num_problems)]
    with Pipeline(name="orchestration") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=batch_size)
        answer = TextGeneration(
            llm=InstantLLM(),
            num_generations=NUM_SAMPLES,
            group_generations=True,
            input_batch_size=batch_size,
        )
        load >> answer
    started_s = time.monotonic()
    distiset = pipeline.run(use_cache=False)
    seconds = time.monotonic() - started_s
    assert len(distiset["default"]["train"]) == num_problems
    print(json.dumps({"num_problems": num_problems, "seconds": seconds}))


if __name__ == "__main__":
    main()
