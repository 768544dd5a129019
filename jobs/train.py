"""Runs the training stage only, on records that were rewritten before.

    ray job submit --working-dir . -- python jobs/train.py --config jobs/configs/quickstart.yaml

It is the same as `drsft train CONFIG KEY=VALUE ...`; a training resumes from its newest checkpoint.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("train", __doc__)
