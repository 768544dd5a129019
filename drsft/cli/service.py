"""The commands that need no run: init, data, verify, the service, and the configuration reference."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from drsft.cli.terminal import Overrides
from drsft.config import RunConfig

__all__ = ["service_app"]

service_app = typer.Typer()


@service_app.command()
def data(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, s3://…, or a hub name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, as in problems.split=test."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="Read the rows by this configuration of a run.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN", help="A column, as in question=Body; roles are keys of problems.columns."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Count its tokens and show the first turn.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Read only this many rows, from the first on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show the rows of a data set as a run would read them, and which it would set aside.

    Without a configuration, columns and verifier are guessed as `drsft init` does, and the guesses are
    printed.

    Examples:  drsft data exercises.csv

               drsft data exercises.json --columns question=Body --columns reference=meta.answer --rows 1000

               drsft data openai/gsm8k problems.subset=main problems.split=test --model Qwen/Qwen2.5-0.5B

               drsft data exercises.jsonl --config my-run.yaml --json
    """
    from drsft.cli.data import show_data

    show_data(
        file,
        overrides or (),
        config=config,
        columns=columns or (),
        model=model,
        max_rows=rows,
        as_json=as_json,
    )


@service_app.command()
def init(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, s3://…, or a hub name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Any key of the configuration, as in train.seeds=[0,1]."
        ),
    ] = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help="A folder, a hub name, or `embedded`.")] = "",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="What to write.")] = Path(
        "my-run.yaml"
    ),
    question: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Or a template, '{Body} {Q}'.")
    ] = None,
    solution: Annotated[str | None, typer.Option(metavar="FIELD", help="The expert's solution.")] = None,
    answer: Annotated[str | None, typer.Option(metavar="FIELD", help="The reference answer.")] = None,
    options: Annotated[str | None, typer.Option(metavar="FIELD", help="Options to choose from.")] = None,
    messages: Annotated[str | None, typer.Option(metavar="FIELD", help="A conversation.")] = None,
    kind: Annotated[str | None, typer.Option(help="The verifier; by default found by trial.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a hub dataset or a folder.")] = None,
    subset: Annotated[str | None, typer.Option(help="Subset of a hub dataset.")] = None,
    storage: Annotated[str, typer.Option(metavar="WHERE", help="A folder or s3:// URL for runs.")] = "runs",
    chat_template: Annotated[
        str | None, typer.Option(metavar="FILE", help="Chat template of a model without one.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the likeliest instead of asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the choices as one JSON object.")] = False,
) -> None:
    """Inspect data, model and machine, and write a commented configuration that runs.

    Chooses columns, verifier, split, prompts, token limits, batch sizes and engine settings, with a reason
    for each. If something cannot be found, exits with 2 and one line that names what is missing.

    Examples:  drsft init problems.csv --model Qwen/Qwen2.5-0.5B-Instruct

               drsft init data/ --model models/mine -o trial.yaml --question Body --answer Answer

               drsft init openai/gsm8k --subset main --model embedded --yes --json train.seeds=[0,1,2]
    """
    from drsft.cli.init import write_starter
    from drsft.errors import ConfigError
    from drsft.setup.found_columns import GivenColumns
    from drsft.setup.starter import Wanted

    if not model:
        raise ConfigError(
            "no model is given; add --model with a folder or hub name, or --model embedded to try"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", output.stem).strip("-._")[:60] or "my-run"
    columns = GivenColumns(
        question=question, demonstration=solution, reference=answer, messages=messages, options=options
    )
    wanted = Wanted(
        path=file,
        model=model,
        name=name,
        columns=columns,
        kind=kind,
        split=split,
        subset=subset,
        storage=storage,
        chat_template=chat_template,
        overrides=tuple(overrides or ()),
    )
    write_starter(wanted, output, force=force, yes=yes, as_json=as_json)


@service_app.command()
def verify(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A file of any format of problems; - reads JSON lines from stdin."
        ),
    ],
    kind: Annotated[str, typer.Option(help="Verifier of rows that do not name one.")] = "math",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, help="Time limit of one row; beyond it: unjudged.")
    ] = 5.0,
    explain: Annotated[
        bool, typer.Option(help="Add how reference and answer were parsed, and where they were found.")
    ] = False,
) -> None:
    """Judge rows of {"reference", "prediction", "kind"?} and print each with "outcome" and "reason".

    Examples:  drsft verify answers.jsonl > judged.jsonl

               zcat samples.jsonl.gz | drsft verify - --kind numeric --workers 4
    """
    from drsft.cli.verify import verify_file

    verify_file(file, kind=kind, num_workers=workers, timeout_s=timeout_s, with_explanation=explain)


@service_app.command()
def serve(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration of the service.")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8700,
) -> None:
    """Serve POST /rewrite on this machine, with a page at / to try it.

    Examples:  drsft serve serve/local.yaml

               drsft serve serve/local.yaml target.model=/models/mine --port 9000
    """
    from drsft.config.configfile import load_settings
    from serve.ray.local import serve_here
    from serve.settings import ServeConfig

    serve_here(load_settings(ServeConfig, config, overrides or ()), host=host, port=port)


@service_app.command("serve-key")
def serve_key(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's user.")]) -> None:
    """Make a key for the service: the secret on stderr, its line for the keys file on stdout.

    Example:  drsft serve-key annotators >> keys
    """
    from serve.limits.keys import make_key

    secret, line = make_key(name)
    print(f"the key of {name}, shown this once: {secret}", file=sys.stderr)
    print(line)


@service_app.command("config")
def config_reference() -> None:
    """Print the reference of all configuration keys as Markdown.

    Example:  drsft config > docs/configuration.md
    """
    from drsft.config.reference import reference
    from serve.settings import ServeConfig

    print(
        reference({"Configuration of a run": RunConfig, "Configuration of the service": ServeConfig}), end=""
    )
