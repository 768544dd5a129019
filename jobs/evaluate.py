"""Runs the evaluation stage only, on models that were trained before.

    ray job submit --working-dir . -- python jobs/evaluate.py --config jobs/configs/quickstart.yaml

It is the same as `drsft evaluate CONFIG KEY=VALUE ...`; existing samples are reused.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("evaluate", __doc__)
