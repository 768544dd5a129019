"""Model folders and chat templates: what cannot be loaded is one line, and nothing of a model is run."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from drsft.config import Engine, Prompts, Target
from drsft.errors import ModelError, StorageError
from drsft.policy.hinted import torch_engine
from drsft.policy.prompts import check_length, check_vocabulary, load_prompter, model_location
from drsft.policy.turn import rendering, sandbox
from drsft.policy.vllm.engine import engine_arguments
from drsft.storage import LocalStore
from drsft.train.checkpoint import Checkpointer, load_latest
from drsft.train.model import load_model
from drsft.train.world import World
from tests.fuzz.doors import changed, damaged, folder, knock, rarely

EMBEDDED = Path(model_location("embedded"))
FILES = sorted(path.name for path in EMBEDDED.iterdir())
JSONS = [name for name in FILES if name.endswith(".json") and name != "tokenizer.json"]
PIECES = st.sampled_from(
    [
        "{% for m in messages %}",
        "{% endfor %}",
        "{{ m.content }}",
        "{{ m['role'] }}",
        "{{ messages[0] }}",
        "<|im_end|>",
        "{% if add_generation_prompt %}",
        "{% endif %}",
        "{{ bos_token }}",
        "{{ raise_exception('no') }}",
        "{{ nothing.at.all }}",
        "{% set x = namespace(y=1) %}",
        "{{ x.y }}",
        "{%- generation %}a{% endgeneration %}",
        "{{ messages | tojson }}",
        "{{",
        "{{ ''.__class__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ messages | map('attr', '__class__') | list }}",
        "{{ 1 / 0 }}",
        "{{ strftime_now('%Y') }}",
        "{% break %}",
        "text\n",
    ]
)
ATTACKS = {
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "fails: .*unsafe",
    "{{ cycler.__init__.__globals__.os.system('touch taken') }}": "fails: .*unsafe",
    "{{ messages.append('x') }}": "fails: .*append",
    "{% include '/etc/passwd' %}": "fails: no loader",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "fails: maximum recursion depth",
    "{{ range(10 ** 9) | list }}": "fails: Range too big",
    "{{ ('a' * 10 ** 11) | length }}": "takes more than 1024 MiB",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": "takes more than 1 s",
}


class Touch:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


def _all_that_loads(location: Path) -> None:
    target = Target(model=str(location), dtype="float32", max_model_len=512)
    check_length(target)
    check_vocabulary(target, load_prompter(str(location), target.prompts))
    load_model(str(location))


@rarely(0.4)
@given(data=st.data(), name=st.sampled_from(FILES), is_gone=st.booleans())
def test_damaged_models(data: st.DataObject, name: str, is_gone: bool) -> None:
    with folder() as here:
        location = Path(shutil.copytree(EMBEDDED, here / "model"))
        if is_gone:
            (location / name).unlink()
        elif name in JSONS:
            settings = json.loads((EMBEDDED / name).read_text())
            (location / name).write_text(json.dumps(data.draw(changed(settings, times=1))))
        else:
            (location / name).write_bytes(data.draw(damaged((EMBEDDED / name).read_bytes())))
        knock("model folders", lambda: _all_that_loads(location))


@rarely(0.3)
@given(template=st.builds("".join, st.lists(PIECES, max_size=6)))
def test_templates(template: str) -> None:
    with folder() as here:
        location = Path(shutil.copytree(EMBEDDED, here / "model"))
        (location / "chat_template.jinja").write_text(template)
        knock("chat templates", lambda: load_prompter(str(location), Prompts()))


@pytest.mark.parametrize(("template", "words"), ATTACKS.items(), ids=[str(n) for n in range(len(ATTACKS))])
def test_a_template_that_reaches_out_or_never_ends_is_refused(
    monkeypatch: pytest.MonkeyPatch, model: Path, template: str, words: str
) -> None:
    monkeypatch.setattr(sandbox, "LIMIT_S", 1)
    (model / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=f"its chat template {words}"):
        load_prompter(str(model), Prompts())
    assert not Path("taken").exists()


def test_templates_are_tried_with_all_that_transformers_gives_them() -> None:
    theirs, ours = chat_template_utils._cached_compile_jinja_template("").environment, rendering.environment()
    assert theirs.filters.keys() == ours.filters.keys()
    assert theirs.globals.keys() == ours.globals.keys()
    tags = [{tag for one in made.extensions.values() for tag in one.tags} for made in (theirs, ours)]
    assert tags[0] == tags[1]


def test_a_template_may_take_as_long_as_it_needs_within_the_limits() -> None:
    turns = [{"role": "user", "content": "x"}]
    template = "{{ messages | tojson(indent=1) }}{% for x in range(9999) %}a{% endfor %}"
    asked = {"asked": sandbox.Conversation(messages=tuple(turns), add_generation_prompt=True)}
    found = sandbox.render_within_limits(template, asked, tokens={}, variables={}, date="2026-01-01")
    assert found.texts["asked"].endswith("a" * 9999)


@pytest.mark.parametrize("load", [load_model, lambda where: torch_engine.load_model(Target(model=where))])
def test_weights_as_a_pickle_are_refused_unread(model: Path, tmp_path: Path, load: Any) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Touch(tmp_path / "taken")}, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(str(model))
    assert not (tmp_path / "taken").exists()
    assert engine_arguments(Target(model=str(model)))["load_format"] == "safetensors"


def test_code_that_comes_with_a_model_does_not_run(model: Path, tmp_path: Path) -> None:
    code = f"from pathlib import Path\nPath({str(tmp_path / 'taken')!r}).touch()\n"
    (model / "theirs.py").write_text(code)
    for name, classes in (
        ("config.json", {"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["theirs.T", "theirs.T"]}),
    ):
        settings = json.loads((model / name).read_text())
        settings.update(auto_map=classes, **({"model_type": "theirs"} if name == "config.json" else {}))
        (model / name).write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        load_model(str(model))
    knock("models with code", lambda: load_prompter(str(model), Prompts()))
    with pytest.raises(ModelError, match=r"config\.json"):
        engine_arguments(Target(model=str(model)))
    target = Target(model=str(model), engine=Engine(kv_cache_mib=64))
    assert engine_arguments(target)["trust_remote_code"] is False
    assert not (tmp_path / "taken").exists()


def test_another_models_tokenizer_is_named(model: Path) -> None:
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "vocab_size": 99}))
    target = Target(model=str(model))
    with pytest.raises(ModelError, match="another model's tokenizer"):
        check_vocabulary(target, load_prompter(str(model), target.prompts))


def _checkpoint(folder: Path) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.5)
    layer(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    checkpointer = Checkpointer(LocalStore(folder), World(), num_kept=1)
    checkpointer.save(layer, optimiser, step=1)
    checkpointer.finish()
    return layer, optimiser


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_a_pickle_in_a_checkpoint_is_refused_unread(tmp_path: Path, name: str) -> None:
    layer, optimiser = _checkpoint(tmp_path)
    step = tmp_path / "checkpoints/step-000001"
    (step / name).write_bytes(pickle.dumps(Touch(tmp_path / "taken")))
    with pytest.raises(StorageError, match="checkpoint cannot be read"):
        load_latest(LocalStore(tmp_path), layer, optimiser, world=World())
    assert not (tmp_path / "taken").exists()


@rarely(0.4)
@given(data=st.data(), name=st.sampled_from([".metadata", "__0_0.distcp", "commit.json"]))
def test_damaged_checkpoints(data: st.DataObject, name: str) -> None:
    with folder() as here:
        layer, optimiser = _checkpoint(here)
        path = here / "checkpoints/step-000001" / name
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        knock("checkpoints", lambda: load_latest(LocalStore(here), layer, optimiser, world=World()))


def test_the_optimisers_settings_are_the_configurations_and_not_the_checkpoints(tmp_path: Path) -> None:
    layer, _ = _checkpoint(tmp_path)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.25)
    assert load_latest(LocalStore(tmp_path), layer, optimiser, world=World()) == 1
    assert [group["lr"] for group in optimiser.param_groups] == [0.25]
    assert all(state["step"] == 1 for state in optimiser.state.values())
