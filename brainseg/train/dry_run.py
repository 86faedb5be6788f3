"""`python -m brainseg.train --dry-run`: everything that a run checks before it starts, and what it will cost."""

from brainseg.config import RunConfig
from brainseg.model.runtime import import_tensorflow
from brainseg.train.run_data import load_run_data


def dry_run(config: RunConfig) -> None:
    """Prints what the run would train on, and its time, memory and disk here. Nothing but the data's cache is written.

    Raises InputError where the run couldn't start or go on.
    """
    data = load_run_data(config)
    import_tensorflow()
    from brainseg.train.cost import of_run
    from brainseg.train.experiment import about, prepare

    prepared = prepare(config, data)
    for line in about(prepared):
        print(line)
    for line in of_run(data).lines():
        print(line)
