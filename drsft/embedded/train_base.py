"""Train the tiny base model from scratch: `python -m drsft.embedded.train_base --out DIR --seed N`.

One CPU thread, seeded. The mix: solving alone, solving with a reference solution in view, reading the
expert's prose, and bare equations. The checkpoint is the first whose share of right samples on the probe
split reaches the target (the base is meant to be half-skilled: there must be something to learn and something
to rewrite); figures for the report come from another split.
"""

import argparse
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from drsft.embedded.measure import guided_prompt, measure, plain_prompt, sample
from drsft.embedded.soundness import boxed_answer
from drsft.embedded.task import Split, WordProblem, make_problems
from drsft.embedded.tokenizer import END_OF_TEXT, END_OF_TURN, train_tokenizer

__all__ = ["Recipe", "make_model", "train"]

LEVELS_ALONE: Mapping[int, float] = {2: 0.38, 3: 0.36, 4: 0.22, 5: 0.04}
LEVELS_IN_VIEW: Mapping[int, float] = {2: 0.20, 3: 0.28, 4: 0.26, 5: 0.18, 6: 0.08}
"""Long chains occur only with a reference in view: the base can follow them but hardly devise them, so that
guidance has something to give. The longest stay rare, and the expert has to supply some of those.
"""

RARE_FAMILIES = {"garden": 0.25, "bus": 0.25}
COMMON_FAMILIES = ("collection", "shopping", "sharing", "travel", "comparison")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    seed: int = 0
    num_steps: int = 2600
    batch_size: int = 64
    learning_rate: float = 2.5e-3
    num_base_problems: int = 30_000
    accuracy_band: tuple[float, float] = (0.3, 0.55)
    """Wanted share of right unguided samples on the probe split; training stops above it."""
    first_probe_step: int = 1400
    probe_every: int = 200
    num_probe_problems: int = 100
    demonstration_weight: float = 0.3
    """Loss weight of the demonstration's tokens in the guided prompt; they make the expert's style known."""
    hidden_size: int = 128
    num_layers: int = 3
    mlp_size: int = 256


@dataclass(frozen=True, slots=True)
class Example:
    token_ids: list[int]
    loss_weights: list[float]
    """One for each token; the weight belongs to predicting that token."""


Pools = dict[tuple[str, int], list[Example]]

KIND_SHARES = {"plain": 0.34, "guided": 0.54, "prose": 0.04, "equations": 0.08}
FIRST_KIND_SHARES = {"plain": 0.35, "guided": 0.25, "equations": 0.40}
FIRST_PHASE = 0.12  # of the steps


def make_model(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Qwen2ForCausalLM:
    eos_token_id = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=recipe.mlp_size,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TEXT)],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    return model


def texts_of(problem: WordProblem, recipe: Recipe, rng: random.Random) -> dict[str, list[tuple[str, float]]]:
    """The training texts of one problem, by kind, each as pieces with their loss weights."""
    own = (problem.own_solution + END_OF_TURN, 1.0)
    # Now and then the reference lacks its last sentence, so that copying the box does not always work.
    sentences = problem.demonstration.split(". ")
    hint = ". ".join(sentences[:-1]) + "." if rng.random() < 0.2 else problem.demonstration
    # Pieces end where the pre-tokenizer splits (a newline sticks to the full stop before it, a space to the
    # word after it), so that encoding them one by one gives the ids of the whole text.
    before, after = guided_prompt(problem, "\0").split(" \0\n")
    # Results only: the operands of a bare line of equations cannot be predicted.
    pieces = re.split(r"(?<==)(\d+)", problem.own_solution)
    return {
        "plain": [(plain_prompt(problem), 0.0), own],
        "guided": [(before, 0.0), (f" {hint}\n", recipe.demonstration_weight), (after, 0.0), own],
        "prose": [(problem.question + "\n", 0.0), (problem.demonstration + END_OF_TEXT, 1.0)],
        "equations": [(piece, float(i % 2)) for i, piece in enumerate(pieces)],
    }


def make_pools(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Pools:
    """Encoded examples by kind and level, so that a batch needs little padding."""
    families = dict.fromkeys(COMMON_FAMILIES, 1.0) | RARE_FAMILIES
    rng = random.Random(recipe.seed)
    pools: Pools = {}
    problems = make_problems(
        Split.BASE, recipe.num_base_problems, seed=recipe.seed, levels=LEVELS_IN_VIEW, families=families
    )
    for problem in problems:
        for kind, pieces in texts_of(problem, recipe, rng).items():
            encoded = tokenizer([text for text, _ in pieces], add_special_tokens=False)["input_ids"]
            token_ids = [i for ids in encoded for i in ids]
            weights = [weight for (_, weight), ids in zip(pieces, encoded, strict=True) for _ in ids]
            pools.setdefault((kind, problem.level), []).append(Example(token_ids, weights))
    return pools


def draw_batch(pools: Pools, recipe: Recipe, rng: random.Random, progress: float) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights (B, T), of one kind and level; short chains and bare equations first."""
    shares = FIRST_KIND_SHARES if progress < FIRST_PHASE else KIND_SHARES
    kind = rng.choices(list(shares), list(shares.values()))[0]
    wanted = LEVELS_ALONE if kind == "plain" else LEVELS_IN_VIEW
    longest = 2 if progress < 0.15 else 3 if progress < 0.3 else 4 if progress < 0.45 else max(wanted)
    levels = [level for level in wanted if level <= longest]
    level = rng.choices(levels, [wanted[level] for level in levels])[0]
    examples = rng.choices(pools[kind, level], k=recipe.batch_size)
    width = max(len(example.token_ids) for example in examples)
    ids_BT = torch.zeros(recipe.batch_size, width, dtype=torch.long)
    weights_BT = torch.zeros(recipe.batch_size, width)
    for row, example in enumerate(examples):
        ids_BT[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        weights_BT[row, : len(example.loss_weights)] = torch.tensor(example.loss_weights)
    return ids_BT, weights_BT


def batch_loss(model: Qwen2ForCausalLM, ids_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Weighted mean of the next-token losses. Padding is on the right, so causal attention alone hides it."""
    hidden_BTH = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state[:, :-1]
    wanted_BT, weights_BT = ids_BT[:, 1:], weights_BT[:, 1:]
    counts = weights_BT > 0
    losses_N = cross_entropy(model.lm_head(hidden_BTH[counts]), wanted_BT[counts], reduction="none")
    return (losses_N * weights_BT[counts]).sum() / weights_BT.sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Shares of right samples on the probe split, and the weights that gave them."""

    alone: float
    guided: float
    weights: dict[str, Tensor]


def run_probe(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, problems: list[WordProblem]
) -> Probe:
    model.eval()
    shares = []
    for prompts in ([plain_prompt(p) for p in problems], [guided_prompt(p) for p in problems]):
        samples = sample(model, tokenizer, prompts, num_samples=2, seed=0)
        right = [
            boxed_answer(s) == p.answer for p, texts in zip(problems, samples, strict=True) for s in texts
        ]
        shares.append(sum(right) / len(right))
    model.train()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Probe(alone=shares[0], guided=shares[1], weights=weights)


def better(chosen: Probe | None, probe: Probe, band: tuple[float, float]) -> Probe | None:
    """The probe to keep: of those within the band, the one that makes the most of a reference solution."""
    if not band[0] <= probe.alone <= band[1]:
        return chosen
    return probe if chosen is None or probe.guided >= chosen.guided else chosen


def update(
    model: Qwen2ForCausalLM, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], rate: float
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = rate
    loss = batch_loss(model, *batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def train(recipe: Recipe) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerBase]:
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    tokenizer = train_tokenizer(make_problems(Split.BASE, 4000, seed=recipe.seed))
    model = make_model(tokenizer, recipe).train()
    pools = make_pools(tokenizer, recipe)
    probe_problems = list(make_problems(Split.PROBE, recipe.num_probe_problems))
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    print(f"{model.num_parameters()} parameters, {len(tokenizer)} tokens", flush=True)
    wall, cpu = time.perf_counter(), time.process_time()
    chosen: Probe | None = None
    for step in range(1, recipe.num_steps + 1):
        progress = (step - 1) / recipe.num_steps
        rate = recipe.learning_rate * min(1.0, step / 100) * max(0.05, 1 - progress)
        loss = update(model, optimiser, draw_batch(pools, recipe, rng, progress), rate)
        if step % 100 == 0:
            spent = f"{time.perf_counter() - wall:.0f} s, CPU {time.process_time() - cpu:.0f} s"
            print(f"step {step}/{recipe.num_steps}  loss {loss:.3f}  {spent}", flush=True)
        if step >= recipe.first_probe_step and step % recipe.probe_every == 0:
            probe = run_probe(model, tokenizer, probe_problems)
            chosen = better(chosen, probe, recipe.accuracy_band)
            print(f"step {step}  probe: {probe.alone:.3f} alone, {probe.guided:.3f} guided", flush=True)
            if probe.alone > recipe.accuracy_band[1]:
                break
    if chosen is None:
        print("no probe was within the wanted band: keeping the last weights", flush=True)
    else:
        model.load_state_dict(chosen.weights)
        print(f"chosen: {chosen.alone:.3f} alone, {chosen.guided:.3f} guided on the probe split", flush=True)
    return model.eval(), tokenizer


def main() -> None:
    recipe = Recipe()
    parser = argparse.ArgumentParser(description="Train the tiny base model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--steps", type=int, default=recipe.num_steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(seed=options.seed, num_steps=options.steps)
    model, tokenizer = train(recipe)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    for figure in measure(model, tokenizer, list(make_problems(Split.TRAIN, 300))):
        print(figure)
    print(json.dumps({"model": str(options.out), "parameters": model.num_parameters()}))


if __name__ == "__main__":
    main()
