"""Whether the trials of a study can get the weights that they start from."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from brainseg.config import RunConfig
from brainseg.sweep.study.plan import every_corner
from brainseg.sweep.study.study_file import StudyConfig


def check_weights(config: StudyConfig) -> None:
    """Gets what `model.weights` names in any trial, so that what Keras downloads is there for all workers.

    In a process of its own, which takes TensorFlow's memory with it. Raises InputError where it can't be had.
    """
    starts = {(run.model.encoder, run.model.weights): run for run in every_corner(config) if run.model.weights}
    if starts:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            for run in starts.values():
                pool.submit(_get, run).result()


def _get(run: RunConfig) -> None:
    from brainseg.model.runtime import import_tensorflow

    import_tensorflow()
    from brainseg.train.starting_weights import starting_weights

    starting_weights(run)
