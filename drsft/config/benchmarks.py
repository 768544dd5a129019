"""Lists the benchmarks known by name: their place on the Hugging Face hub, columns, verifier and prompt.

A configuration's own keys override these defaults. Each benchmark's columns are those on the hub first, then
the usual names of a local copy (`problem`, `answer`), so that for a machine without a network

    benchmarks: [{name: math500, problems: {path: math500.jsonl.gz}}]

is enough.
"""

from typing import Any

__all__ = ["KNOWN_BENCHMARKS", "PAPER_BENCHMARKS", "PROTOCOLS"]

# The five benchmarks of arXiv 2508.05629 and 2509.15157.
PAPER_BENCHMARKS = ("math500", "minerva_math", "olympiadbench", "aime24", "amc23")

_TESTS = "\nYour code should pass these tests:\n"

KNOWN_BENCHMARKS: dict[str, dict[str, Any]] = {
    "math500": {"problems": {"path": "HuggingFaceH4/MATH-500", "split": "test"}},
    "minerva_math": {"problems": {"path": "math-ai/minervamath", "split": "test"}},
    "olympiadbench": {
        "problems": {
            "path": "math-ai/olympiadbench",  # OE_TO_maths_en_COMP: text only, English, open-ended
            "split": "test",
            "columns": {"reference": ("final_answer", "answer")},
        }
    },
    "aime24": {"problems": {"path": "HuggingFaceH4/aime_2024", "split": "train"}},
    "amc23": {"problems": {"path": "math-ai/amc23", "split": "test"}},
    "gsm8k": {"problems": {"path": "openai/gsm8k", "subset": "main", "split": "test"}},
    "svamp": {
        "problems": {
            "path": "ChilleD/SVAMP",
            "split": "train+test",  # all 1,000 are the authors' challenge set
            "columns": {"question": ("{Body} {Question}", "problem"), "reference": ("Answer", "answer")},
        }
    },
    "aqua": {
        "problems": {
            "path": "deepmind/aqua_rat",
            "subset": "raw",
            "split": "test",
            "columns": {
                "question": ("{question}\n{options}", "problem"),
                "reference": ("correct", "answer"),
            },
            "kind": "choice",
        },
        "prompt": "{question}\nPlease reason step by step, and put the letter of your choice "
        "within \\boxed{}.",
    },
    "humaneval": {
        "problems": {
            "path": "openai/openai_humaneval",
            "split": "test",
            "columns": {"question": ("prompt", "problem")},
            "kind": "code",
        },
        "prompt": "Complete this Python function. Give the whole function in one block of code.\n\n"
        "```python\n{question}\n```",
    },
    "mbpp": {
        "problems": {
            "path": "google-research-datasets/mbpp",
            "split": "test",
            "columns": {"question": (f"{{text}}{_TESTS}{{test_list}}", f"{{problem}}{_TESTS}{{tests}}")},
            "kind": "code",
        },
        "prompt": "{question}\n\nGive the solution in one block of Python code.",
    },
}

_PUBLISHED: dict[str, Any] = {
    "benchmarks": PAPER_BENCHMARKS,
    "num_samples": 16,
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": 4096,
}

PROTOCOLS: dict[str, dict[str, Any]] = {
    # Qwen2.5-Math's harness with its qwen-boxed prompt, zero-shot, as both papers ran it. The system turn
    # must be given: otherwise the template of Qwen2.5-Math writes a different one.
    "published": {
        **_PUBLISHED,
        "system": "You are a helpful assistant.",
        "prompt": "{question}\nPlease reason step by step, and put your final answer within \\boxed{}.",
    },
    # The same for Llama, whose own template writes the header with its dates (and one begin-of-text, not the
    # two that the papers' release sent through vLLM).
    "published_llama": {
        **_PUBLISHED,
        "prompt": "{question}\nLet's think step by step and output the final answer within \\boxed{}.",
    },
}
