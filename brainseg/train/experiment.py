"""One training run, from a checked configuration to its record."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from brainseg.cli.literal import numbered
from brainseg.config import DataConfig, RunConfig
from brainseg.config_file import to_yaml
from brainseg.data.batches import steps_per_epoch
from brainseg.data.load import RunData
from brainseg.errors import CheckpointError, Interrupted, Pruned
from brainseg.inference.prediction import Predictor
from brainseg.model import runtime as hardware
from brainseg.model.encoders.weights import Weights
from brainseg.model.stock import to_stock
from brainseg.plugins import made
from brainseg.scoring.evaluation import Evaluation, evaluate
from brainseg.tracking.protocol import Tracker
from brainseg.train.checkpoint import Checkpoints, RunManifest, TrainingProgress, TrainingState
from brainseg.train.contracts import check_parts
from brainseg.train.environment import machine
from brainseg.train.loop import Trainer
from brainseg.train.progress import Reporter, Silent
from brainseg.train.record import as_recorded, record_pruned, record_result, record_start
from brainseg.train.run_data import load_run_data
from brainseg.train.signals import StopRequest, stop_on_signals
from brainseg.train.starting_weights import starting_weights

# Called with each epoch (from 1) and its metrics once they are recorded and the checkpoint is written; after a resume,
# first with the epochs before it. Raises Pruned or Interrupted to end the run.
EpochWatch = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished run has reached."""

    run_id: str
    history: tuple[Mapping[str, float], ...]  # metrics of each epoch
    best_epoch: int  # from 1
    best_val_dice_image: float  # of that epoch, at the model's size
    final_dice: float  # of the saved model, at the stored size: what ranks runs
    dice_by_class: Mapping[str, float]  # class -> final Dice; empty for binary masks
    dice_by_type: Mapping[str, float]  # tumour type -> final Dice; empty where types are unknown
    parameters: int  # weights of the saved model
    seconds_per_image: float  # its prediction of one slice
    further: Mapping[str, float]  # metric of a plugin -> its mean over the validation slices; NaN where it has no value
    unwritten: tuple[str, ...] = ()  # parts of the record that couldn't be written, a line each
    undelivered: int = 0  # records that wait in the spool
    stopped_by: int | None = None  # a signal that came while the record was written; nothing more may start


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run starts from, after all checks that are possible before it."""

    data: RunData
    manifest: RunManifest
    weights: Weights | None  # that a run starts from which has none of its own yet; None: drawn from the seed
    trainer: Trainer | None = None  # of a run that goes on, at its checkpoint


def prepare(config: RunConfig, data: RunData | None = None) -> Prepared:
    """Sets precision and threads; on a resume, as the first start had them.

    data: what `load_run_data` gives; loaded here if it is left out. Raises InputError, with nothing
    written, where the run can't start or go on.
    """
    data = data or load_run_data(config)
    config = data.config
    checkpoints = None if config.resume is None else Checkpoints(Path(config.tracking.root), config.resume)
    if checkpoints is None:
        manifest = RunManifest(
            config_yaml=to_yaml(as_recorded(config)),
            data_fingerprint=data.slices.fingerprint,
            split_json=data.split.to_json(),
            precision=hardware.resolve_precision(config.train.precision, is_depthwise=config.model.is_depthwise),
            threads=hardware.resolve_threads(config.train.threads),
        )
    else:
        manifest = dataclasses.replace(checkpoints.manifest(), config_yaml=to_yaml(as_recorded(config)))
    hardware.apply(manifest.precision, manifest.threads)
    check_parts(config, data.slices.labels)
    if checkpoints is not None and (stored := checkpoints.load()) is not None:
        return Prepared(
            data=data, manifest=manifest, weights=None, trainer=_trainer_at(stored, data, checkpoints, config.resume)
        )
    return Prepared(data=data, manifest=manifest, weights=starting_weights(config))


def _trainer_at(stored: TrainingState, data: RunData, checkpoints: Checkpoints, run_id: str | None) -> Trainer:
    """The training as it was stored. Raises CheckpointError where the checkpoint is of another one."""
    with stop_on_signals() as stop, stop.deferred():
        trainer = Trainer(data.config, data.slices, data.split)
        try:
            trainer.restore(stored)
        except ValueError as error:
            raise CheckpointError(
                f"resume={run_id}: {checkpoints.folder} isn't of this training ({error}); start a new run"
            ) from error
    stop.check()
    return trainer


def run(
    config: RunConfig,
    tracker: Tracker,
    *,
    prepared: Prepared | None = None,
    checkpoints: Checkpoints | None = None,
    reporter: Reporter | None = None,
    on_epoch: EpochWatch | None = None,
    keep_checkpoint: bool = False,
    tags_of: Callable[[Result], Mapping[str, str]] | None = None,
) -> Result:
    """Trains, evaluates and records one run; with `config.resume`, goes on with that one.

    `config` is complete: on a resume it is the stored one (`Checkpoints.stored_config`).
    checkpoints: of a run that goes on, which the caller has reserved.
    keep_checkpoint: leave the finished run's checkpoint to the caller, from which it ends in the same way again.
    tags_of: further tags of the run, which its scores decide.
    Raises what `prepare` raises, NonFiniteError, Interrupted once a checkpoint is written, or what
    `on_epoch` raises.
    """
    prepared = prepared or prepare(config)
    reporter = reporter or Silent()
    checkpoints = checkpoints or Checkpoints(Path(prepared.data.config.tracking.root), tracker.run_id)
    with contextlib.ExitStack() as held:
        with stop_on_signals() as stop, tracker:
            # Until the checkpoint is gone: a resume that found it after the record's end would train the run again.
            held.enter_context(checkpoints.lease(attempt=tracker.attempt))
            trainer = _begin(prepared, tracker, checkpoints, reporter, stop)
            try:
                unsaved = _fit(
                    trainer, checkpoints, tracker, reporter, stop, on_epoch, keep=prepared.weights is not None
                )
            except Pruned as pruned:
                progress = trainer.progress
                record_pruned(tracker, history=progress.history, best_epoch=progress.best_epoch, pruned=pruned)
                raise
            model, evaluation = _finish(trainer, tracker, prepared.data, stop)
            result = _result(tracker.run_id, trainer.progress, model, evaluation)
            if tags_of is not None and (tags := tags_of(result)):
                tracker.set_tags(tags)
        unwritten = (*unsaved, *tracker.unwritten)
        if not unwritten and not keep_checkpoint:
            checkpoints.remove()  # the record has the model
    return dataclasses.replace(result, unwritten=unwritten, undelivered=tracker.undelivered, stopped_by=stop.signal)


def _begin(
    prepared: Prepared, tracker: Tracker, checkpoints: Checkpoints, reporter: Reporter, stop: StopRequest
) -> Trainer:
    """The training before its first step, once the record has what it starts from."""
    data, manifest, weights = prepared.data, prepared.manifest, prepared.weights
    checkpoints.begin(dataclasses.replace(manifest, store=tracker.store))
    record_start(tracker, data.config, data, precision=manifest.precision, threads=manifest.threads, weights=weights)
    reporter.say(f"run {tracker.run_id}")
    for line in about(prepared):
        reporter.say(line)
    with stop.deferred():  # Keras turns an exception that is raised inside it into another one
        trainer = Trainer(data.config, data.slices, data.split, weights=weights)
    if weights is not None:
        reporter.say(f"starts from {weights.about}{trainer.anew and f'; {trainer.anew}'}")
    stop.check()
    return trainer


def _result(run_id: str, progress: TrainingProgress, model: keras.Model, evaluation: Evaluation) -> Result:
    return Result(
        run_id=run_id,
        history=progress.history,
        best_epoch=progress.best_epoch,
        best_val_dice_image=progress.best_score,
        final_dice=evaluation.dice,
        dice_by_class=evaluation.dice_by_class(),
        dice_by_type=evaluation.dice_by_type(),
        parameters=model.count_params(),
        seconds_per_image=evaluation.seconds_per_image,
        further=evaluation.means(),
    )


def _finish(trainer: Trainer, tracker: Tracker, data: RunData, stop: StopRequest) -> tuple[keras.Model, Evaluation]:
    """The best model in stock layers, and its scores; both recorded."""
    config, progress = data.config, trainer.progress
    stop.defer()  # as for the trainer; then until the record is complete
    model = to_stock(trainer.best_model())
    evaluation = evaluate(
        Predictor(model),
        data.slices,
        data.split.val,
        score_by=config.data.score_by,
        metrics={name: made("metrics", name, config.metric_options) for name in config.metrics},
        on_batch=stop.check,
    )
    record_result(
        tracker,
        config,
        data,
        history=progress.history,
        best_epoch=progress.best_epoch,
        evaluation=evaluation,
        model=model,
    )
    return model, evaluation


def about(prepared: Prepared) -> tuple[str, ...]:
    """What the run trains on, for people: a line each, notes last."""
    data, manifest = prepared.data, prepared.manifest
    config, split = data.config, data.split
    test = f", {len(split.test)} to test on" if split.test else ""
    threads = numbered(manifest.threads, "thread")
    lines = [
        f"{data.slices.source.location}: {len(split.train)} slices to train on, {len(split.val)} to validate on{test}; "
        f"split by {config.data.split_by}, {manifest.precision}, {threads}, on {_device()}",
        _about_images(config.data),
        *_about_patches(config, data),
        *(f"note: {note}" for note in (*data.notes, *_unseen_gpus())),
    ]
    if data.patients_on_both_sides:
        lines.append(
            f"note: {data.patients_on_both_sides} patients have slices on both sides of the split, "
            "so that the scores say little about new patients; data.split_by=patient keeps them apart"
        )
    return tuple(lines)


def _device() -> str:
    """What the run computes on, for people: one GPU, even where there are more."""
    names = hardware.gpu_names()
    if not names:
        return "the CPU"
    return names[0] if len(names) == 1 else f"{names[0]}, the first of {len(names)} GPUs"


def _unseen_gpus() -> tuple[str, ...]:
    """A note where the driver has a GPU that TensorFlow can't use."""
    names = ", ".join(gpu.name for gpu in machine().gpus)
    if not names or hardware.gpu_names():
        return ()
    return (f"TensorFlow doesn't see the GPU ({names}); pip install 'tensorflow[and-cuda]' adds what it needs",)


def _about_images(data: DataConfig) -> str:
    """What the model sees and what it is to find."""
    channels = data.channels if isinstance(data.channels, str) else ", ".join(data.channels)
    labels = data.labels
    classes = f"classes {', '.join(labels.names)}" if labels.are_named else "masks of two kinds of pixels"
    ignored = "" if data.ignore is None else f"; {data.ignore} is ignored"
    return f"images in {channels}; {classes}{ignored}; ranked by {data.score_by}"


def _about_patches(config: RunConfig, data: RunData) -> tuple[str, ...]:
    """How many patches of which slices a step sees; nothing without patches."""
    count, batch, slices = config.data.patches, config.data.batch_size, len(data.split.train)
    if not count:
        return ()
    steps = steps_per_epoch(count * slices, batch_size=batch)
    return (
        f"patches of {config.data.size_text}: {count} of each of {slices} slices an epoch, in {steps} steps of "
        f"{min(batch, count * slices)}",
    )


def _fit(
    trainer: Trainer,
    checkpoints: Checkpoints,
    tracker: Tracker,
    reporter: Reporter,
    stop: StopRequest,
    watch: EpochWatch | None,
    *,
    keep: bool,
) -> tuple[str, ...]:
    """Trains to the end, with a checkpoint after each epoch; a line for each checkpoint that couldn't be written.

    keep: with a checkpoint before the first one, too, so that a resume doesn't ask for starting weights again.
    """
    failure: str | None = None

    def save() -> None:
        nonlocal failure
        try:
            checkpoints.save(trainer.state())
            failure = None
        except OSError as error:
            if failure is None:
                reporter.say(f"warning: no checkpoint in {checkpoints.folder} ({error.strerror}); training goes on")
            epoch = trainer.progress.epoch - (trainer.progress.step == 0)  # the last one of which steps are done
            failure = f"the checkpoint {f'of epoch {epoch}' if epoch else 'before epoch 1'} ({error.strerror})"

    stored = checkpoints.load()  # once more: only now may no other process go on with the run
    if stored is not None:
        trainer.restore(stored)
        progress = trainer.progress
        here = f"in epoch {progress.epoch}, after {progress.step} of its steps"
        reporter.say(f"goes on {f'after epoch {len(progress.history)}, the last one' if trainer.is_done() else here}")
        for epoch, metrics in enumerate(trainer.progress.history, start=1):
            tracker.log_metrics(metrics, epoch=epoch)  # what a kill may have kept from the store
            if watch is not None:
                watch(epoch, metrics)
    elif keep:
        save()

    def on_epoch() -> None:
        save()
        history = trainer.progress.history
        tracker.log_metrics(history[-1], epoch=len(history))
        if watch is not None:
            watch(len(history), history[-1])

    try:
        trainer.fit(stop=stop, reporter=reporter, on_epoch=on_epoch)
    except Interrupted:
        if not stop.is_urgent:  # else the weights may be a step ahead of `progress`
            save()
        raise
    return () if failure is None else (failure,)
