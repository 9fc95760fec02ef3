"""The epoch loop: figures, order, callbacks, divergence, frozen layers, momentum; without a compiler."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from small_images import bars

from fastcnn import backends, training, utils
from fastcnn.callbacks import Callback, ProgressBar
from fastcnn.errors import ArgumentError, DivergedError
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from fastcnn.losses import CategoricalCrossentropy
from fastcnn.models import Sequential
from fastcnn.optimizers import SGD

IMAGES, Y = bars(60)
X = IMAGES / 255.0 - 0.5


def small(optimizer=None, *, conv_learns=True, **options):
    layers = [
        Conv2D(3, 3, input_shape=(12, 10, 1), trainable=conv_learns),
        MaxPooling2D(2),
        Flatten(),
        Dense(4, activation="softmax"),
    ]
    model = Sequential(layers, **{"backend": "im2col", "dtype": "float64", "seed": 1, **options})
    model.compile(optimizer or SGD(0.05), "sparse_categorical_crossentropy", ["accuracy"])
    return model


class Recorder(Callback):
    """Notes every call of a hook."""

    def __init__(self):
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begin")

    def on_train_end(self, logs=None):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch} begin")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch} end {sorted(logs)}")

    def on_test_begin(self, logs=None):
        self.calls.append("test begin")

    def on_test_end(self, logs=None):
        self.calls.append("test end")

    def close(self):
        self.calls.append("close")


class EveryBatch(Callback):
    def __init__(self):
        self.seen, self.begun, self.progress = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, logs["loss"], logs["accuracy"]))

    def on_train_progress(self, done, logs=None):
        self.progress.append(done)


def test_the_figures_of_an_epoch_are_the_running_means_before_each_update():
    model = small()
    twin = small()
    expected_loss, expected_right = 0.0, 0
    for start in range(0, 60, 7):
        part = slice(start, start + 7)
        probabilities = twin.predict(X[part])
        expected_loss -= np.log(probabilities[np.arange(len(probabilities)), Y[part]]).sum()
        expected_right += (probabilities.argmax(axis=1) == Y[part]).sum()
        twin.fit(X[part], Y[part], batch_size=7, shuffle=False, verbose=0)
    history = model.fit(X, Y, batch_size=7, shuffle=False, verbose=0)
    assert history.history["loss"] == [pytest.approx(expected_loss / 60)]
    assert history.history["accuracy"] == [expected_right / 60]
    for mine, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_a_step_is_the_mean_gradient_by_central_differences():
    model = small(SGD(1.0))
    before = model.get_weights()
    model.fit(X[:5], Y[:5], batch_size=5, shuffle=False, verbose=0)
    after = model.get_weights()

    def loss(weights):
        model.set_weights(weights)
        return model.evaluate(X[:5], Y[:5], verbose=0)[0]

    rng = np.random.default_rng(0)
    direction = [rng.standard_normal(w.shape) for w in before]
    plus, minus = ([w + sign * 1e-5 * d for w, d in zip(before, direction, strict=True)] for sign in (1.0, -1.0))
    slope = (loss(plus) - loss(minus)) / 2e-5
    step = sum(((old - new) * d).sum() for old, new, d in zip(before, after, direction, strict=True))
    assert step == pytest.approx(slope, rel=1e-6)


def test_every_weight_moves_and_the_network_learns():
    model = small()
    before = model.get_weights()
    history = model.fit(X, Y, batch_size=4, epochs=12, verbose=0, validation_data=(X, Y))
    assert all((old != new).all() for old, new in zip(before, model.get_weights(), strict=True))
    assert history.history["val_accuracy"][-1] == 1.0
    assert history.history["loss"][-1] < history.history["loss"][0] / 3


def test_a_frozen_layer_stays_as_it_is():
    model = small(conv_learns=False)
    kernel, bias, *dense = model.get_weights()
    model.fit(X, Y, verbose=0)
    assert all((old != new).all() for old, new in zip(dense, model.get_weights()[2:], strict=True))
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    np.testing.assert_array_equal(model.get_weights()[1], bias)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_follows_keras_formula(nesterov):
    class Weight:
        value = np.array([1.0, 2.0])

        def changed(self):
            pass

    weight = Weight()
    optimizer = SGD(0.1, momentum=0.9, nesterov=nesterov)
    gradients = [np.array([1.0, -1.0]), np.array([0.5, 2.0])]
    expected, velocity = np.array([1.0, 2.0]), np.zeros(2)
    for gradient in gradients:
        optimizer.apply([weight], [gradient])
        velocity = 0.9 * velocity - 0.1 * gradient
        expected = expected + (0.9 * velocity - 0.1 * gradient if nesterov else velocity)
        np.testing.assert_allclose(weight.value, expected)
    assert optimizer.iterations == 2


def test_shuffling_visits_every_sample_once_in_a_new_order_each_epoch(monkeypatch):
    model = small()
    orders = []
    plan = model._make_plan(model.optimizer)
    train = plan.train

    def spy(images, labels, order, *rest):
        orders.extend(order.tolist())
        return train(images, labels, order, *rest)

    monkeypatch.setattr(plan, "train", spy)
    monkeypatch.setattr(model, "_make_plan", lambda optimizer=None: plan)
    model.fit(X, Y, batch_size=7, epochs=2, verbose=0)
    first, second = orders[:60], orders[60:]
    assert sorted(first) == sorted(second) == list(range(60))
    assert first != second
    assert first != sorted(first)
    orders.clear()
    model.fit(X, Y, batch_size=7, shuffle=False, verbose=0)
    assert orders == list(range(60))


def test_chunks_of_any_size_give_the_same_weights(monkeypatch):
    weights = []
    for seconds in (0.0, 1e-9, 1e9):
        monkeypatch.setattr(training, "CHUNK_SECONDS", seconds)
        model = small()
        model.fit(X, Y, batch_size=7, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for one, two, three in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_callbacks_are_called_in_keras_order():
    recorder = Recorder()
    small().fit(X, Y, epochs=2, verbose=0, callbacks=[recorder], validation_data=(X, Y))
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    epochs = [[f"epoch {e} begin", "test begin", "test end", f"epoch {e} end {names}"] for e in (0, 1)]
    assert recorder.calls == ["train begin", *epochs[0], *epochs[1], "train end", "close"]
    assert recorder.params == {"epochs": 2, "steps": 2, "samples": 60, "batch_size": 32}


def test_a_callback_may_ask_for_every_batch():
    callback = EveryBatch()
    model = small()
    history = model.fit(X, Y, batch_size=7, verbose=0, callbacks=[callback])
    assert callback.begun == [batch for batch, _, _ in callback.seen] == list(range(9))
    assert callback.progress == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert callback.seen[-1][1:] == (history.history["loss"][0], history.history["accuracy"][0])
    twin = small()
    twin.fit(X, Y, batch_size=7, verbose=0)
    for mine, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_callback_may_stop_training():
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model = small()
    assert model.fit(X, Y, epochs=9, verbose=0, callbacks=[Stop()]).epoch == [0, 1]
    assert model.fit(X, Y, epochs=3, initial_epoch=2, verbose=0).epoch == [2]


def test_an_interrupt_closes_callbacks_and_keeps_what_was_learnt():
    class Interrupt(Callback):
        def on_train_progress(self, done, logs=None):
            raise KeyboardInterrupt

    recorder, model = Recorder(), small()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[recorder, Interrupt()])
    assert recorder.calls == ["train begin", "epoch 0 begin", "close"]
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_divergence_says_where_and_what_to_try_and_keeps_finite_weights():
    model = small(SGD(1e5), dtype="float32")
    with pytest.raises(DivergedError) as caught:
        model.fit(X, Y, batch_size=4, epochs=50, verbose=0)
    assert "training diverged: the loss is no longer finite at epoch" in str(caught.value)
    assert "try a learning rate lower than 100000" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_nan_in_the_images_is_named_and_not_blamed_on_the_learning_rate():
    model = small()
    before = model.get_weights()
    spoilt = X.copy()
    spoilt[5, 2, 2] = np.nan
    with pytest.raises(DivergedError, match=r"x\[5\] holds nan or infinite values \(at epoch 1, step 2\)"):
        model.fit(spoilt, Y, batch_size=4, shuffle=False, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_validation_split_takes_the_last_samples():
    model, twin = small(), small()
    split = model.fit(X, Y, verbose=0, validation_split=0.25)
    given = twin.fit(X[:45], Y[:45], verbose=0, validation_data=(X[45:], Y[45:]))
    assert split.history == given.history


def test_one_hot_and_whole_number_labels_are_the_same():
    sparse, onehot = small(), small()
    onehot.compile(SGD(0.05), CategoricalCrossentropy(), ["accuracy"])
    first = sparse.fit(X, Y.astype(np.float32)[:, None], verbose=0)
    second = onehot.fit(X, utils.to_categorical(Y), verbose=0)
    assert first.history == second.history


def test_a_linear_end_with_from_logits_is_the_same_network():
    soft, linear = small(), small()
    linear.pop()
    linear.add(Dense(4))
    linear.set_weights(soft.get_weights())
    linear.compile(SGD(0.05), CategoricalCrossentropy(from_logits=True), ["accuracy"])
    first = soft.fit(X, Y, verbose=0)
    second = linear.fit(X, utils.to_categorical(Y), verbose=0)
    assert first.history == second.history
    exponentials = np.exp(linear.predict(X))
    np.testing.assert_allclose(soft.predict(X), exponentials / exponentials.sum(axis=1, keepdims=True))


def test_evaluate_returns_what_keras_returns():
    model = small()
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    probabilities = model.predict(X)
    assert loss == pytest.approx(-np.log(probabilities[np.arange(60), Y]).mean())
    assert accuracy == (probabilities.argmax(axis=1) == Y).mean()
    assert model.evaluate(X, Y, batch_size=7, verbose=0) == pytest.approx([loss, accuracy])
    assert model.evaluate(X, Y, verbose=0, return_dict=True) == {"loss": loss, "accuracy": accuracy}
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert model.evaluate(X, Y, verbose=0) == loss


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_fit_prints_what_keras_prints(verbose, capsys):
    small().fit(X, Y, epochs=2, verbose=verbose, validation_data=(X, Y))
    printed = capsys.readouterr().out.splitlines()
    if verbose == 0:
        assert printed == []
        return
    assert printed[0::2] == ["Epoch 1/2", "Epoch 2/2"]
    for line in printed[1::2]:
        assert line.startswith("2/2 " + ("━" * 20 if verbose == 1 else "- "))
        figures = [part.split(":")[0] for part in line.split(" - ")[-4:]]
        assert figures == ["loss", "accuracy", "val_loss", "val_accuracy"]


def test_a_terminal_sees_the_live_bar():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    small().fit(X, Y, batch_size=1, verbose=0, callbacks=[ProgressBar(console=console)])
    assert "60/60" in screen.getvalue()
    assert "accuracy: " in screen.getvalue()
    with pytest.raises(ArgumentError, match="verbose='loud'"):
        ProgressBar("loud")


def test_stages_run_on_every_backend_alike():
    probabilities = []
    for backend in backends.BACKENDS:
        model = small(backend=backend, dtype=None)
        model.compile(SGD(0.05), "sparse_categorical_crossentropy", fused=False)
        model.fit(X, Y, batch_size=7, verbose=0)
        probabilities.append(model.predict(X))
    np.testing.assert_allclose(probabilities[1], probabilities[0], rtol=2e-5)
    np.testing.assert_allclose(probabilities[2], probabilities[0], rtol=2e-5)
