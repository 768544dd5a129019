"""Records which versions and which weights sampled a shard.

One actor with one engine samples a whole shard, so this is stored once in the shard's file and commit, not in
every row.
"""

import hashlib
from pathlib import Path

from drsft.config import Target
from drsft.policy.prompts import model_location

__all__ = ["model_fingerprint", "provenance"]

_SAMPLED_BYTES = 1 << 20  # from each end of a file


def provenance(target: Target) -> dict[str, str]:
    """Returns the versions of vLLM, torch and transformers, the target's name, and the fingerprint of its
    files.

    Imports vLLM and torch.
    """
    import torch
    import transformers
    import vllm

    return {
        "vllm_version": str(vllm.__version__),
        "torch_version": str(torch.__version__),
        "transformers_version": str(transformers.__version__),
        "target_model": target.model,
        "target_fingerprint": model_fingerprint(model_location(target.model)),
    }


def model_fingerprint(location: str) -> str:
    """Returns a fingerprint of a model's files: sixteen hex digits for a folder, `commit:…` for a hub name,
    "" for a hub name that is not in the local cache.

    Each file counts by its name, its size and a MiB from either end, which takes seconds instead of minutes
    for many GB. An optimiser step changes nearly every weight, so another checkpoint has another fingerprint.
    """
    folder = Path(location).expanduser()
    if not folder.is_dir():
        return _hub_commit(location)
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(f"{path.name}\x00{path.stat().st_size}\x00".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLED_BYTES))
                file.seek(max(file.tell(), path.stat().st_size - _SAMPLED_BYTES))
                digest.update(file.read())
    return digest.hexdigest()


def _hub_commit(name: str) -> str:
    """Returns the commit in the local cache, without asking a server."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")  # …/snapshots/<commit>/config.json
    return f"commit:{Path(found).parent.name}" if isinstance(found, str) else ""
