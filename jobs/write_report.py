"""Writes the report only, from the results that the run has so far.

    ray job submit --working-dir . -- python jobs/write_report.py --config jobs/configs/quickstart.yaml

It is the same as `drsft report CONFIG KEY=VALUE ...`; it needs no cluster.
"""

from drsft.cli.job import run_job

if __name__ == "__main__":
    run_job("report", __doc__)
