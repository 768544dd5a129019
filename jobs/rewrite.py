"""Runs the rewriting stage only, which makes the records of a run.

    ray job submit --working-dir . -- python jobs/rewrite.py --config jobs/configs/quickstart.yaml

It is the same as `drsft rewrite CONFIG KEY=VALUE ...`; committed shards are skipped.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("rewrite", __doc__)
