"""Only the evaluation, of models that were trained before.

    ray job submit --working-dir . -- python jobs/evaluate.py --config jobs/configs/quickstart.yaml

The same as `drsft evaluate CONFIG KEY=VALUE ...`; what was sampled is not sampled again.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("evaluate", __doc__)
