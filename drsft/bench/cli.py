"""drsft bench: side-by-side measurements, the peer in the same run."""

import typer

from drsft.bench.rewriting.commands import sampling_app
from drsft.bench.training.commands import learning_app

__all__ = ["bench_app"]

bench_app = typer.Typer(no_args_is_help=True, help="Side-by-side measurements, the peer in the same run.")
for part in (sampling_app, learning_app):
    bench_app.add_typer(part)
