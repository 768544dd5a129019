"""Runs the gap report only, on records that were rewritten before.

    ray job submit --working-dir . -- python jobs/measure_gap.py --config jobs/configs/quickstart.yaml

It is the same as `drsft gap CONFIG KEY=VALUE ...`; shards that are already scored are skipped.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("gap", __doc__)
