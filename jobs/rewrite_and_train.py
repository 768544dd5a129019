"""Runs the main job: rewrite, train, evaluate, report.

    ray job submit --working-dir . -- \\
        python jobs/rewrite_and_train.py --config jobs/configs/quickstart.yaml storage=s3://bucket/runs

It is the same as `drsft run CONFIG KEY=VALUE ...`; running the same configuration again resumes it.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("run", __doc__)
