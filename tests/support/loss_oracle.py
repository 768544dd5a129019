"""The objectives once more, slowly: pure Python, one number after another, gradients by central differences.

Written from the papers' formulas alone; nothing here calls drsft or torch. It makes files of cases, too.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

Vector = Sequence[float]
STEP = 1e-5  # of the differences: errors of 1e-10

METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "dft": {},
    "dft_seq": {},
    "dft_geomean": {},
    "idft": {"beta": 0.7, "gamma_min": 0.4, "gamma_max": 1.5, "lambda_t": 0.6, "prob_eps": 0.02},
    "idft@eps": {"beta": 1.0, "gamma_min": 0.1, "gamma_max": 2.0, "lambda_t": 1.0, "entropy_eps": 1e-3},
    "idft_phi_clip": {"B": 0.6},
    "iw_sft_seq": {"temp": 3.0, "clip_max": 1.2},
    "iw_sft_seq@2": {"temp": 1.0, "clip_max": 16.0},
    "iw_sft_token": {"clip_min": 0.6, "clip_max": 1.3},
    "eaft_topk": {"k": 3, "norm": 1.1, "alpha": 1.7},
    "eaft_full": {},
    "asft": {"kl_weight": 0.4},
    "sft_kl": {"kl_weight": 0.2},
    "talr": {"floor": 0.2},
    "chord_phi": {},
    "psft": {"clip_low": 0.3, "clip_high": 0.1},
    "neg_p_power": {"alpha": 0.6},
    "luffy_shaping": {"gamma": 0.3, "advantage": 2.0},
    "srft": {"scale": 0.7, "entropy_power": 1.0},
}


def softmax(logits: Vector) -> list[float]:
    largest = max(logits)
    exps = [math.exp(z - largest) for z in logits]
    return [value / math.fsum(exps) for value in exps]


def entropy(probabilities: Vector, epsilon: float = 0.0) -> float:
    return -math.fsum(p * math.log(p + epsilon) for p in probabilities if p > 0)


def kl(reference: Vector, logits: Vector) -> float:
    return math.fsum(q * (math.log(q) - math.log(p)) for q, p in zip(reference, softmax(logits), strict=True))


class Token:
    """One position: what is known of it before an objective is."""

    def __init__(self, logits: Vector, reference: Vector, old: Vector, label: int) -> None:
        self.logits, self.label = logits, label
        self.p = softmax(logits)[label]
        self.reference = softmax(reference)
        self.ratio = self.p / self.reference[label]
        self.old_ratio = self.p / softmax(old)[label]


def weights_of(name: str, options: dict[str, Any], documents: list[list[Token]]) -> list[list[float]]:
    """What multiplies −log p, or, for losses of their own, the gradient's factor before any clip."""
    kind = name.split("@")[0]
    mean_losses = sorted(-sum(math.log(token.p) for token in one) / len(one) for one in documents)
    median = mean_losses[(len(mean_losses) - 1) // 2]
    return [[weight_of(kind, options, token, one, median) for token in one] for one in documents]


def weight_of(
    kind: str, options: dict[str, Any], token: Token, document: list[Token], median: float
) -> float:
    p, probabilities = token.p, softmax(token.logits)
    phi = math.log(p) + entropy(probabilities, options.get("entropy_eps", 0.0))
    match kind:
        case "sft" | "sft_kl":
            return 1.0
        case "dft" | "asft":
            return p
        case "dft_seq":
            return math.prod(one.p for one in document)
        case "dft_geomean":
            return math.prod(one.p for one in document) ** (1 / len(document))
        case "idft":
            gamma = min(max(math.exp(-phi / options["beta"]), options["gamma_min"]), options["gamma_max"])
            gamma = 1 + options["lambda_t"] * (gamma - 1)
            return max(p, options.get("prob_eps", 1e-10)) ** gamma
        case "idft_phi_clip":
            return p ** math.exp(-min(max(phi, -options["B"]), options["B"]))
        case "iw_sft_seq":
            mean = sum(math.log(one.ratio) for one in document) / len(document)
            return min(math.exp(options["temp"] * mean), options["clip_max"])
        case "iw_sft_token":
            return min(max(token.ratio, options["clip_min"]), options["clip_max"])
        case "eaft_topk":
            top = sorted(probabilities)[-options["k"] :]
            return (entropy([value / sum(top) for value in top]) / options["norm"]) ** options["alpha"]
        case "eaft_full":
            return entropy(probabilities) / math.log(len(probabilities))
        case "talr":
            return max(p ** (1 / median), options["floor"])
        case "chord_phi":
            return p * (1 - p)
        case "psft":
            return token.old_ratio
        case "neg_p_power":
            return p ** options["alpha"]
        case "luffy_shaping":
            return options["advantage"] * options["gamma"] * p / (p + options["gamma"]) ** 2
        case "srft":
            return options["scale"] * math.exp(options["entropy_power"] * entropy(probabilities))
    raise AssertionError(kind)


def loss_of(kind: str, options: dict[str, Any], token: Token, weight: float) -> Callable[[Vector], float]:
    """The token's loss as a function of its logits, with the weight held."""

    def loss(logits: Vector) -> float:
        p = softmax(logits)[token.label]
        match kind:
            case "psft":
                ratio = p * token.old_ratio / token.p
                low, high = 1 - options["clip_low"], 1 + options["clip_high"]
                return -min(ratio, min(max(ratio, low), high))
            case "neg_p_power":
                return (1 - p ** options["alpha"]) / options["alpha"]
            case "luffy_shaping":
                return -options["advantage"] * p / (p + options["gamma"])
            case "idft":
                return -weight * math.log(max(p, options.get("prob_eps", 1e-10)))
            case "asft" | "sft_kl":
                return -weight * math.log(p) + options["kl_weight"] * kl(token.reference, logits)
        return -weight * math.log(p)

    return loss


def gradient(function: Callable[[Vector], float], logits: Vector) -> list[float]:
    def moved(index: int, by: float) -> list[float]:
        return [z + by * (place == index) for place, z in enumerate(logits)]

    return [(function(moved(v, STEP)) - function(moved(v, -STEP))) / (2 * STEP) for v in range(len(logits))]


def worked_case(seed: int, *, rows: int, tokens: int, vocab: int) -> dict[str, Any]:
    """A case in the format of a fixtures file: every method on random logits, some positions masked out."""
    draw = random.Random(seed)

    def logits(spread: float) -> list[list[list[float]]]:
        return [[[draw.gauss(0, spread) for _ in range(vocab)] for _ in range(tokens)] for _ in range(rows)]

    policy, drift, older = logits(1.5), logits(0.3), logits(0.3)
    reference, old = (
        [[[z + d for z, d in zip(*pair, strict=True)] for pair in zip(*both, strict=True)]
         for both in zip(policy, moved, strict=True)]
        for moved in (drift, older)
    )  # fmt: skip
    labels = [[draw.randrange(vocab) for _ in range(tokens)] for _ in range(rows)]
    mask = [[int(t == tokens - 1 or draw.random() < 0.7) for t in range(tokens)] for _ in range(rows)]
    places = [[t for t in range(tokens) if mask[row][t]] for row in range(rows)]
    documents = [
        [Token(policy[row][t], reference[row][t], old[row][t], labels[row][t]) for t in places[row]]
        for row in range(rows)
    ]

    def spread(values: list[list[Any]], empty: Any) -> list[list[Any]]:
        """(B, T) again, with `empty` where the mask is 0."""
        found = [[empty for _ in range(tokens)] for _ in range(rows)]
        for row, one in enumerate(values):
            for t, value in zip(places[row], one, strict=True):
                found[row][t] = value
        return found

    def method(name: str, options: dict[str, Any]) -> dict[str, Any]:
        kind, weights = name.split("@")[0], weights_of(name, options, documents)
        functions = [
            [loss_of(kind, options, token, weight) for token, weight in zip(*pair, strict=True)]
            for pair in zip(documents, weights, strict=True)
        ]
        losses = [
            [function(token.logits) for function, token in zip(*pair, strict=True)]
            for pair in zip(functions, documents, strict=True)
        ]
        count = sum(map(len, losses))
        gradients = [
            [
                [g / count for g in gradient(function, token.logits)]
                for function, token in zip(*pair, strict=True)
            ]
            for pair in zip(functions, documents, strict=True)
        ]
        return {
            "hyperparameters": options,
            "weight": spread(weights, 0.0),
            "per_token_loss": spread(losses, 0.0),
            "loss": sum(map(sum, losses)) / count,
            "grad_logits": spread(gradients, [0.0] * vocab),
        }

    def of_labels(values: list[list[list[float]]]) -> list[list[float]]:
        return [
            [math.log(softmax(values[row][t])[labels[row][t]]) for t in range(tokens)] for row in range(rows)
        ]

    return {
        "name": f"random {seed}",
        "logits": policy,
        "labels": labels,
        "mask": mask,
        "ref_logits": reference,
        "ref_logprobs": of_labels(reference),
        "old_logits": old,
        "old_logprobs": of_labels(old),
        "token_logprobs": of_labels(policy),
        "entropy_nats": [[entropy(softmax(one)) for one in row] for row in policy],
        "methods": {name: method(name, options) for name, options in METHODS.items()},
    }
