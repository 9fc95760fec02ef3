"""Callbacks that steer and record training, on models that need no compiler and on figures given to them."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from small_images import bars

from fastcnn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    SwapEMAWeights,
)
from fastcnn.errors import ArgumentError
from fastcnn.layers import Dense, Flatten
from fastcnn.models import Sequential, load_model
from fastcnn.optimizers import SGD, schedules

IMAGES, Y = bars(40)
X = IMAGES / 255.0


def model(optimizer=None):
    made = Sequential([Flatten(input_shape=(12, 10)), Dense(4, "softmax")], backend="im2col", seed=1)
    made.compile(optimizer or SGD(0.1), "sparse_categorical_crossentropy", ["accuracy"])
    return made


class Figures(Callback):
    """Puts figures of one's own into the logs, and notes the weights of each epoch."""

    def __init__(self, name, values):
        self.name, self.values, self.weights = name, values, []

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]
        self.weights.append(self.model.get_weights())


def fit(made, *callbacks, epochs=8, **options):
    return made.fit(X, Y, epochs=epochs, verbose=0, callbacks=list(callbacks), **options)


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([5, 4, 3, 3, 3, 3, 3, 3], {"patience": 2}, 5, 2),
        ([5, 4, 3, 2, 1, 1, 0, 0], {"patience": 2}, 8, 6),
        ([5, 6, 7, 8, 9, 9, 9, 9], {}, 2, 0),
        ([5, 4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 4.3], {"patience": 3, "min_delta": 0.25}, 8, 6),
        ([5, 4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 4.3], {"patience": 2, "min_delta": 0.25}, 3, 0),
        ([1, 2, 3, 2, 2, 9, 9, 9], {"mode": "max", "patience": 2}, 5, 2),
        ([9, 1, 5, 4, 6, 6, 6, 6], {"patience": 1, "start_from_epoch": 2}, 5, 3),
        ([5, 4, 3, 2, 1, 0, 0, 0], {"patience": 3, "baseline": 0.5}, 3, 2),
        ([math.nan] * 8, {"patience": 3}, 3, 0),
    ],
)
def test_early_stopping(values, options, epochs, best):
    made, figures = model(), Figures("val_loss", values)
    stopping = EarlyStopping(restore_best_weights=True, **options)
    assert fit(made, figures, stopping).epoch == list(range(epochs))
    assert stopping.best_epoch == best
    for mine, other in zip(made.get_weights(), figures.weights[best], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_early_stopping_leaves_the_last_weights_unless_asked_and_says_when(capsys):
    made, figures = model(), Figures("val_accuracy", [1, 2, 2, 3])
    fit(made, figures, EarlyStopping("val_accuracy", patience=1, verbose=1))
    assert capsys.readouterr().out == "Epoch 3: early stopping\n"
    np.testing.assert_array_equal(made.get_weights()[0], figures.weights[2][0])


def test_a_figure_that_is_not_there_is_warned_about():
    with pytest.warns(UserWarning, match="EarlyStopping: there is no figure 'val_loss'; there are: loss, accuracy"):
        assert fit(model(), EarlyStopping(), epochs=2).epoch == [0, 1]


@pytest.mark.parametrize(
    ("values", "options", "rates"),
    [
        ([5, 4, 4, 4, 4, 4], {"factor": 0.5, "patience": 2}, [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]),
        ([5, 5, 5, 5, 5, 5], {"factor": 0.5, "patience": 1, "min_lr": 0.03}, [0.1, 0.1, 0.05, 0.03, 0.03, 0.03]),
        ([5, 5, 5, 5, 5, 5], {"factor": 0.5, "patience": 1, "cooldown": 2}, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]),
        ([5, 4, 3, 2, 1, 0], {"patience": 1}, [0.1] * 6),
    ],
)
def test_reduce_on_plateau(values, options, rates):
    history = fit(model(), Figures("val_loss", values), ReduceLROnPlateau(**options), epochs=6)
    assert history.history["learning_rate"] == pytest.approx(rates)


def test_the_learning_rate_scheduler_sets_every_epochs(capsys):
    halving = fit(model(), LearningRateScheduler(lambda epoch, rate: rate / 2), epochs=3)
    assert halving.history["learning_rate"] == [0.05, 0.025, 0.0125]
    by_epoch = fit(model(), LearningRateScheduler(lambda epoch: 0.1 ** (epoch + 1), verbose=1), epochs=2)
    assert by_epoch.history["learning_rate"] == pytest.approx([0.1, 0.01])
    assert capsys.readouterr().out.splitlines()[1] == "Epoch 2: the learning rate is 0.01"
    with pytest.raises(ArgumentError, match="follows a schedule"):
        fit(model(SGD(schedules.CosineDecay(0.1, 5))), LearningRateScheduler(lambda epoch: 0.1))


def test_checkpoints_are_written_for_every_epoch_or_for_the_best(tmp_path, capsys):
    made, figures = model(), Figures("val_loss", [3, 1, 2, 0.5])
    every = ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}.st")
    best = ModelCheckpoint(tmp_path / "best.st", save_best_only=True, save_weights_only=True, verbose=1)
    fit(made, figures, every, best, epochs=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-3.0.st", "02-1.0.st", "03-2.0.st", "best.st"]
    for name, epoch in (("01-3.0.st", 0), ("best.st", 1)):
        again = load_model(tmp_path / name, backend="im2col")
        np.testing.assert_array_equal(again.get_weights()[0], figures.weights[epoch][0])
    assert [line[:8] for line in capsys.readouterr().out.splitlines()] == ["Epoch 1:", "Epoch 2:"]
    with pytest.raises(ArgumentError, match="can't fill in 'val_auc'; there are: epoch, loss, accuracy"):
        fit(model(), ModelCheckpoint("{val_auc}"))


def test_the_csv_logger_writes_a_line_an_epoch(tmp_path):
    path = tmp_path / "log.csv"
    history = fit(model(), CSVLogger(path), epochs=2).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "accuracy", "loss"]
    assert [(int(r["epoch"]), float(r["loss"])) for r in rows] == list(enumerate(history["loss"]))
    fit(model(), CSVLogger(path, append=True), epochs=1)
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["epoch", "0", "1", "0"]
    fit(model(), CSVLogger(path, separator=";"), epochs=1)
    assert [line.split(";")[0] for line in path.read_text().splitlines()] == ["epoch", "0"]
    with pytest.raises(ArgumentError, match="filename"):
        fit(model(), CSVLogger(tmp_path / "nowhere" / "log.csv"))


def test_averages_are_validated_saved_and_left_in_the_model(tmp_path):
    def averaging():
        return model(SGD(0.1, use_ema=True, ema_momentum=0.9))

    class Weights(Callback):
        """Notes the weights at the end of each epoch, and those in the validation before it."""

        def __init__(self):
            self.epochs, self.tests = [], []

        def on_test_begin(self, logs=None):
            self.tests.append(self.model.get_weights()[0])

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append(self.model.get_weights()[0])

    plain, swapping, keeping = Weights(), Weights(), Weights()
    validation = {"validation_data": (X, Y)}
    made = averaging()
    fit(made, plain, epochs=3, **validation)
    final = made.get_weights()[0]
    assert all(np.array_equal(*pair) for pair in zip(plain.epochs, plain.tests, strict=True))
    assert np.abs(final - plain.epochs[-1]).max() > 1e-3
    made = averaging()
    history = fit(made, SwapEMAWeights(), swapping, epochs=3, **validation)
    np.testing.assert_array_equal(swapping.epochs, plain.epochs)
    np.testing.assert_array_equal(swapping.tests[-1], final)
    np.testing.assert_array_equal(made.get_weights()[0], final)
    assert history.history["val_loss"][-1] == pytest.approx(made.evaluate(X, Y, verbose=0)[0], rel=1e-12)
    made = averaging()
    saved = ModelCheckpoint(tmp_path / "{epoch}.st")
    fit(made, SwapEMAWeights(swap_on_epoch=True), keeping, saved, epochs=3, **validation)
    np.testing.assert_array_equal(keeping.epochs, swapping.tests)
    np.testing.assert_array_equal(load_model(tmp_path / "3.st", backend="im2col").get_weights()[0], final)
    np.testing.assert_array_equal(made.get_weights()[0], final)


def test_the_weights_are_back_after_a_validation_that_broke_off():
    class Breaking(Callback):
        def on_test_begin(self, logs=None):
            raise KeyboardInterrupt

    made, twin = model(SGD(0.1, use_ema=True)), model(SGD(0.1))
    with pytest.raises(KeyboardInterrupt):
        fit(made, SwapEMAWeights(), Breaking(), epochs=1, validation_data=(X, Y))
    fit(twin, epochs=1)
    np.testing.assert_array_equal(made.get_weights()[0], twin.get_weights()[0])
    with pytest.raises(ArgumentError, match=r"SwapEMAWeights: .* SGD\(..., use_ema=True\)"):
        fit(twin, SwapEMAWeights(), epochs=1)


def test_lambda_callbacks_are_called_where_they_say():
    seen = []
    hooks = {name: lambda *given, name=name: seen.append(name) for name in LambdaCallback.HOOKS}
    fit(model(), LambdaCallback(**{**hooks, "on_epoch_begin": None}), epochs=1, batch_size=20)
    batch = ["on_train_batch_begin", "on_train_batch_end"]
    assert seen == ["on_train_begin", *batch, *batch, "on_epoch_end", "on_train_end"]
    with pytest.raises(ArgumentError, match="on_lunch"):
        LambdaCallback(on_lunch=print)
    with pytest.raises(ArgumentError, match="on_epoch_end=3"):
        LambdaCallback(on_epoch_end=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EarlyStopping(mode="down"), "mode='down'"),
        (lambda: EarlyStopping(patience=-1), "patience=-1"),
        (lambda: ReduceLROnPlateau(factor=1.0), "factor=1.0"),
        (lambda: ModelCheckpoint("a", save_freq=10), "save_freq=10"),
        (lambda: LearningRateScheduler(0.1), "schedule=0.1"),
    ],
)
def test_bad_arguments_say_so(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()
