"""A small tokenizer in Qwen2's own format: byte-level BPE, Qwen2's pre-tokenizer, numbers up to 99 whole.

`AutoTokenizer` makes a Qwen2Tokenizer of any folder whose model_type is qwen2, whatever tokenizer_class says,
and with another kind of vocabulary that quietly changes the ids. So this is the real format, and every loader
gives the same ids. All 256 bytes are in the vocabulary: any text survives encoding and decoding (after NFC,
which Qwen2 applies first).
"""

import json
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from tests.base_model.task import GUIDED_PROMPT, WordProblem

__all__ = ["CHAT_TEMPLATE", "END_OF_TEXT", "END_OF_TURN", "chat_text", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
START_OF_TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"
WHOLE_NUMBERS = range(
    10, 100
)  # as added tokens: copying and adding single tokens is learnt many times faster
NUM_TOKENS = 768  # enough for the words of both styles to be one token each

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def chat_text(user: str, assistant: str = "") -> str:
    """What CHAT_TEMPLATE gives for one user turn, and the start of the assistant's. Kept equal to it by a
    test.
    """
    return f"{START_OF_TURN}user\n{user}{END_OF_TURN}\n{START_OF_TURN}assistant\n{assistant}"


def train_tokenizer(problems: Iterable[WordProblem]) -> Qwen2Tokenizer:
    """Learn the merges from `problems` and their prompts."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TOKENS - 3,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(problems), trainer)
    learnt = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(merge) for merge in learnt["merges"]],
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        extra_special_tokens=[START_OF_TURN],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="left",
    )
    # Single words only: 43 is one token, 430 three digits.
    tokenizer.add_tokens([AddedToken(str(n), single_word=True, normalized=False) for n in WHOLE_NUMBERS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _texts(problems: Iterable[WordProblem]) -> Iterator[str]:
    for problem in problems:
        guided = GUIDED_PROMPT.format(question=problem.question, demonstration=problem.demonstration)
        yield f"user\n{guided}\nassistant\n{problem.own_solution}"
