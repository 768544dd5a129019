"""Sends a job's metrics to TensorBoard, MLflow or Weights & Biases, besides metrics.jsonl.

This happens on the first process only. A tracker that fails to start ends the job before its first step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, assert_never

from drsft.config import TrackerName
from drsft.errors import SetupError
from drsft.run.layout import TRAINING
from drsft.storage import Store, upload_folder

__all__ = ["Tracker", "open_trackers"]


class Tracker(Protocol):
    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def flush(self) -> None:
        """Sends or writes everything logged so far; called with every checkpoint."""
        ...

    def close(self) -> None: ...


def open_trackers(
    names: Sequence[TrackerName], store: Store, *, run: str, job: str, first_step: int
) -> list[Tracker]:
    """Returns the trackers of one job, which call it `job` and group it under `run`.

    A tracker that already has a job of this name resumes it. Raises SetupError if a library is missing.
    """
    return [_open(name, store, run=run, job=job, first_step=first_step) for name in names]


def _open(name: TrackerName, store: Store, *, run: str, job: str, first_step: int) -> Tracker:
    try:
        match name:
            case "tensorboard":
                return TensorBoard(store, first_step=first_step)
            case "mlflow":
                return MLflow(run=run, job=job)
            case "wandb":
                return WeightsAndBiases(run=run, job=job)
            case _:
                assert_never(name)
    except ImportError as error:
        raise SetupError(f"train.trackers: {name} is not installed: pip install 'drsft[{name}]'") from error


class TensorBoard:
    """Writes event files under tensorboard/ of the job's store, which `tensorboard --logdir` reads, also from
    s3://.
    """

    def __init__(self, store: Store, *, first_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._store = store
        self._folder = TemporaryDirectory(prefix="drsft-tensorboard-")
        # Each start writes files of its own; lines after `first_step` of an earlier one are superseded.
        self._writer = SummaryWriter(
            self._folder.name,
            purge_step=first_step + 1 if first_step else None,
            filename_suffix=f".from-{first_step:06d}",  # the time in the name is in whole seconds
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()
        upload_folder(self._store, Path(self._folder.name), TRAINING.tensorboard)

    def close(self) -> None:
        self.flush()
        self._writer.close()
        self._folder.cleanup()


class MLflow:
    """Logs to the server of MLFLOW_TRACKING_URI, in the experiment with the run's name."""

    def __init__(self, *, run: str, job: str) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        experiment = self._client.get_experiment_by_name(run)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(run)
        query = f"attributes.run_name = '{job}'"
        earlier = self._client.search_runs([experiment_id], query, max_results=1)
        started = earlier[0] if earlier else self._client.create_run(experiment_id, run_name=job)
        self._run_id = started.info.run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def flush(self) -> None:
        """Does nothing: every value is sent as it is logged."""

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


class WeightsAndBiases:
    """Logs to the project with the run's name; configured by WANDB_API_KEY or WANDB_MODE=offline."""

    def __init__(self, *, run: str, job: str) -> None:
        import wandb

        self._run: Any = wandb.init(project=run, name=job, id=job.replace("/", "-"), resume="allow")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def flush(self) -> None:
        """Does nothing: wandb sends data by itself."""

    def close(self) -> None:
        self._run.finish()
