"""The main job: rewrite, train, evaluate, report.

    ray job submit --working-dir . -- python jobs/rewrite_and_train.py --config jobs/configs/quickstart.yaml

The same as `drsft run CONFIG KEY=VALUE ...`; the same configuration again goes on where the last one stopped.
"""

import argparse
import sys

from drsft.cli import main


def entry() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="a YAML configuration, see jobs/configs")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as train.seeds=[0]")
    arguments = parser.parse_args()
    sys.argv = ["drsft", "run", arguments.config, *arguments.overrides]
    main()


if __name__ == "__main__":
    entry()
