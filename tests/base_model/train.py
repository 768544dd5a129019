"""Train the tiny base model from scratch: `python -m tests.base_model.train --out DIR --seed N`.

One CPU thread, seeded, about 20 CPU minutes. The base is meant to be half-skilled: there must be something to
learn, and something to rewrite. So the checkpoint is chosen on the probe split: of those whose share of right
unguided samples is within a band, the one that makes the most of a reference solution. The figures printed at
the end come from another split.
"""

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from tests.base_model.measure import guided_prompt, measure, plain_prompt, sample
from tests.base_model.soundness import boxed_answer
from tests.base_model.task import Split, WordProblem, make_problems
from tests.base_model.tokenizer import END_OF_TEXT, END_OF_TURN, train_tokenizer
from tests.base_model.training_data import PHASES, draw_batch, make_pools

__all__ = ["Recipe", "make_model", "run_phase", "save", "train"]

TOKENIZER_LEVELS = {2: 0.2, 3: 0.3, 4: 0.25, 5: 0.15, 6: 0.1}

# B = rows of a batch, T = tokens of a row, H = hidden units, N = tokens that count for the loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    seed: int = 0
    batch_rows: int = 64
    num_problems: int = 30_000
    """Base problems of each phase."""
    accuracy_band: tuple[float, float] = (0.3, 0.6)
    """Wanted share of right unguided samples on the probe split; the last phase stops above it."""
    probe_every: int = 100
    """Steps between two probes, in the second half of the last phase."""
    num_probe_problems: int = 100
    hidden_size: int = 128
    num_layers: int = 3
    mlp_size: int = 256


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


def run_phase(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, index: int
) -> Probe | None:
    """Train through PHASES[index], with an optimiser and random numbers of its own.

    The last phase probes and gives the best probe; the others, or a last phase without a probe within the
    band, give None.
    """
    phase, is_last = PHASES[index], index == len(PHASES) - 1
    seed = recipe.seed + index
    rng = random.Random(seed)
    pools = make_pools(tokenizer, phase.levels, num_problems=recipe.num_problems, seed=seed)
    probe_problems = list(make_problems(Split.PROBE, recipe.num_probe_problems))
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    wall, cpu = time.perf_counter(), time.process_time()
    chosen: Probe | None = None
    for step in range(1, phase.num_steps + 1):
        batch = draw_batch(pools, phase, rng, progress=phase.progress(step), num_rows=recipe.batch_rows)
        loss = update(model, optimiser, batch, phase.rate(step))
        if step % 100 == 0:
            spent = f"{time.perf_counter() - wall:.0f} s, CPU {time.process_time() - cpu:.0f} s"
            print(f"phase {index + 1} step {step}/{phase.num_steps}  loss {loss:.3f}  {spent}", flush=True)
        if is_last and step >= phase.num_steps // 2 and step % recipe.probe_every == 0:
            probe = run_probe(model, tokenizer, probe_problems)
            chosen = better(chosen, probe, recipe.accuracy_band)
            print(f"step {step}  probe: {probe.alone:.3f} alone, {probe.guided:.3f} guided", flush=True)
            if probe.alone > recipe.accuracy_band[1]:
                break
    return chosen


def train(recipe: Recipe) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerBase]:
    torch.manual_seed(recipe.seed)
    tokenizer = train_tokenizer(make_problems(Split.BASE, 4000, seed=recipe.seed, levels=TOKENIZER_LEVELS))
    model = make_model(tokenizer, recipe).train()
    print(f"{model.num_parameters()} parameters, {len(tokenizer)} tokens", flush=True)
    chosen = [run_phase(model, tokenizer, recipe, index) for index in range(len(PHASES))][-1]
    if chosen is None:
        print("no probe was within the wanted band: keeping the last weights", flush=True)
    else:
        model.load_state_dict(chosen.weights)
        print(f"chosen: {chosen.alone:.3f} alone, {chosen.guided:.3f} guided on the probe split", flush=True)
    return model.eval(), tokenizer


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Hugging Face format, without the padding that padded calls leave behind in a tokenizer."""
    tokenizer.backend_tokenizer.no_padding()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny base model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    model, tokenizer = train(Recipe(seed=options.seed))
    save(model, tokenizer, options.out)
    print(f"{options.out}: {time.perf_counter() - wall:.0f} s, CPU {time.process_time() - cpu:.0f} s")
    for figure in measure(model, tokenizer, list(make_problems(Split.TRAIN, 300))):
        print(figure)


if __name__ == "__main__":
    main()
