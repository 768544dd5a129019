"""Runs a command of the command line for the scripts in jobs/, with the configuration as an option."""

import argparse
import os
import sys

from drsft.cli import main

__all__ = ["run_job"]


def run_job(command: str, description: str | None) -> None:
    """Runs `drsft COMMAND CONFIG KEY=VALUE ...` and ends the process with its exit code.

    Without a terminal the driver logs JSON lines, unless DRSFT_LOG says otherwise.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("DRSFT_LOG", "json")
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="a YAML configuration, see jobs/configs")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.seeds=[0]")
    arguments = parser.parse_args()
    sys.argv = ["drsft", command, arguments.config, *arguments.overrides]
    main()
