"""Model files: what is written comes back; what is damaged says so; nothing half-written stays behind."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from small_images import bars

from fastcnn.errors import ArgumentError, ModelFileError
from fastcnn.initializers import RandomNormal
from fastcnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    RandomTranslation,
    Rescaling,
)
from fastcnn.models import Sequential, load_model
from fastcnn.optimizers import SGD, Adadelta, Adam, RMSprop
from fastcnn.optimizers.schedules import CosineDecay

X, Y = bars(30)


def trained(filters=3, **options):
    layers = [
        Rescaling(1 / 255, -0.5),
        Conv2D(filters, 3, use_bias=False, kernel_initializer=RandomNormal(stddev=1 / 9)),
        MaxPooling2D(2, ties="all"),
        Flatten(),
        Dense(4, activation="softmax"),
    ]
    model = Sequential(layers, **{"backend": "im2col", "seed": 1, "name": "bars", **options})
    model.compile(SGD(0.02, momentum=0.5), "sparse_categorical_crossentropy", ["acc"])
    model.fit(X, Y, verbose=0)
    return model


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    trained().save(path)
    return path


def rewrite(path, change):
    """Write the file again with its description changed."""
    with safe_open(path, "numpy") as file:
        description = json.loads(file.metadata()["fastcnn"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(description, arrays)
    save_file(arrays, path, {"fastcnn": json.dumps(description)})


def test_a_model_comes_back_whole(saved):
    model, again = trained(), load_model(saved, backend="im2col")
    for mine, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert again.get_config() == model.get_config()
    assert again.evaluate(X, Y, verbose=0, return_dict=True) == model.evaluate(X, Y, verbose=0, return_dict=True)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    again.fit(X, Y, verbose=0)


def test_a_model_may_come_back_on_another_backend(saved):
    again = load_model(saved, backend="reference")
    assert again.get_weights()[0].dtype == np.float64
    np.testing.assert_allclose(again.predict(X[:3]), trained().predict(X[:3]), rtol=1e-4)
    with pytest.raises(ArgumentError, match="backend"):
        load_model(saved, backend="cuda")


def test_a_model_without_compile_comes_back_without(tmp_path):
    model = Sequential([Dense(3, input_dim=2)], backend="im2col")
    model.save(tmp_path / "m")
    assert load_model(tmp_path / "m", backend="im2col").optimizer is None


def test_the_file_is_plain_safetensors_and_json(saved):
    with safe_open(saved, "numpy") as file:
        description = json.loads(file.metadata()["fastcnn"])
        weights = {"conv2d.kernel", "dense.kernel", "dense.bias"}
        assert set(file.keys()) == weights | {f"optimizer.{name}.0" for name in weights}  # SGD's momentum
    assert description["format"] == 1
    assert [layer["class"] for layer in description["model"]["layers"]][:2] == ["Rescaling", "Conv2D"]
    assert description["model"]["input_shape"] == [12, 10, 1]
    assert description["weights"] == ["conv2d.kernel", "dense.kernel", "dense.bias"]


OPTIMIZERS = {
    "momentum": lambda: SGD(0.05, momentum=0.9),
    "adam": lambda: Adam(CosineDecay(0.01, 30), amsgrad=True),
    "rmsprop": lambda: RMSprop(momentum=0.5, centered=True),
    "adadelta": lambda: Adadelta(1.0, weight_decay=0.01),
}


def drawing(optimizer, backend):
    """A network that draws masks and images of its own, too."""
    layers = [
        RandomTranslation(0.1, 0.1, seed=4, input_shape=(12, 10, 1)),
        Conv2D(3, 3, activation="relu"),
        BatchNormalization(),
        Dropout(0.3),
        Flatten(),
        Dense(6, trainable=False),
        Dense(4, activation="softmax"),
    ]
    model = Sequential(layers, backend=backend, seed=2)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


@pytest.mark.parametrize("backend", ["im2col", "numba"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(name, backend, tmp_path):
    """The same orders, masks, steps and rates: two epochs are one, a file, and one more, bit for bit."""
    whole = drawing(OPTIMIZERS[name](), backend)
    history = whole.fit(X, Y, batch_size=7, epochs=2, verbose=0).history
    first = drawing(OPTIMIZERS[name](), backend)
    first.fit(X, Y, batch_size=7, verbose=0)
    first.save(tmp_path / "m")
    again = load_model(tmp_path / "m", backend=backend)
    assert again.optimizer.iterations == 5
    assert again.optimizer.learning_rate == first.optimizer.learning_rate
    more = again.fit(X, Y, batch_size=7, epochs=2, initial_epoch=1, verbose=0).history
    assert more["loss"] == history["loss"][1:]
    for mine, other in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("backend", ["im2col", "numba"])
def test_averages_of_the_weights_go_on_from_a_file(backend, tmp_path):
    model = drawing(Adam(use_ema=True, ema_momentum=0.7), backend)
    model.fit(X, Y, batch_size=7, verbose=0)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m", backend=backend)
    for each in (model, again):
        each.fit(X, Y, batch_size=7, verbose=0)
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_without_the_optimizer_it_starts_anew(tmp_path):
    model = drawing(Adam(), "im2col")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "all")
    model.save(tmp_path / "less", include_optimizer=False)
    model.save_weights(tmp_path / "weights")
    again = load_model(tmp_path / "less", backend="im2col")
    assert again.optimizer.iterations == 0
    assert isinstance(again.optimizer, Adam)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    sizes = [os.path.getsize(tmp_path / name) for name in ("all", "less", "weights")]
    assert sizes[0] > sizes[1] == sizes[2]


def test_the_state_of_an_optimizer_is_checked():
    optimizer, (kernel, bias) = Adam(), drawing("adam", "im2col").layers[-1].parameters.values()
    assert optimizer.get_state(kernel) == []
    optimizer.set_state(bias, [np.ones(4), np.zeros(4)])
    np.testing.assert_array_equal(optimizer.get_state(bias)[0], np.ones(4))
    with pytest.raises(ArgumentError, match=r"adam: state of bias is \(3,\), \(4,\); expected 2 of \(4,\)"):
        optimizer.set_state(bias, [np.ones(3), np.zeros(4)])
    with pytest.raises(ArgumentError, match="expected 2 of"):
        optimizer.set_state(bias, [np.zeros(4)])


def test_weights_go_through_a_file_of_keras_name_and_say_what_it_is(tmp_path):
    path = tmp_path / "cnn.h5"
    model = trained()
    with pytest.warns(UserWarning, match="safetensors"):
        model.save_weights(path)
    twin = trained(seed=2)
    twin.load_weights(path)
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))


def test_weights_of_another_network_are_refused_whole(saved):
    other = trained(filters=5)
    before = other.get_weights()
    with pytest.raises(ModelFileError, match=r"model\.safetensors: does not fit.*shape"):
        other.load_weights(saved)
    for mine, old in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 60, 500, -1])
def test_truncated_files_are_named(saved, size):
    content = saved.read_bytes()
    saved.write_bytes(content[:size])
    with pytest.raises(ModelFileError, match=r"model\.safetensors: is truncated or no model file") as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b"\xff" * 100, "truncated or no model"),
        (b"not a model at all, just some text in a file", "truncated or no model"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, content, words):
    path = tmp_path / "odd.file"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"odd\.file: .*{words}"):
        load_model(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.st: can't be read \(No such file"):
        load_model(tmp_path / "none.st")
    with pytest.raises(ModelFileError, match="can't be read"):
        load_model(tmp_path)


def test_safetensors_of_others_are_named(tmp_path):
    save_file({"a": np.zeros(3)}, tmp_path / "a.st")
    with pytest.raises(ModelFileError, match="none that fastcnn saved"):
        load_model(tmp_path / "a.st")


def _layer(description, position):
    return description["model"]["layers"][position]


@pytest.mark.parametrize(
    "change",
    [
        lambda d, a: d.update(format=2),
        lambda d, a: d.update(format="1"),
        lambda d, a: d.pop("model"),
        lambda d, a: d.update(model=[]),
        lambda d, a: d["model"].pop("input_shape"),
        lambda d, a: d["model"].update(input_shape=[12, 10]),
        lambda d, a: d["model"].update(input_shape=[12, 12, 1]),
        lambda d, a: d["model"].update(layers=7),
        lambda d, a: _layer(d, 1).update({"class": "os.system"}),
        lambda d, a: _layer(d, 1)["config"].update(filters=4),
        lambda d, a: _layer(d, 1)["config"].pop("filters"),
        lambda d, a: _layer(d, 1)["config"].update(filters=None),
        lambda d, a: _layer(d, 1)["config"].update(kernel_initializer={"class": "Evil"}),
        lambda d, a: _layer(d, 1)["config"].update(kernel_initializer={"class": ["Zeros"]}),
        lambda d, a: _layer(d, 1)["config"].update(surprise=1),
        lambda d, a: _layer(d, 4)["config"].update(units=10**15),
        lambda d, a: d["compile"].update(loss="hinge"),
        lambda d, a: d["compile"]["optimizer"]["config"].update(learning_rate=-1),
        lambda d, a: d.update(iterations=-1),
        lambda d, a: d.update(generators={"samples": 7}),
        lambda d, a: d["generators"].pop("masks"),
        lambda d, a: d["generators"]["masks"].update(bit_generator="MT19937"),
        lambda d, a: d["generators"]["masks"]["state"].update(state=-1),
        lambda d, a: d["generators"]["masks"]["state"].update(state=None),
        lambda d, a: d["generators"]["masks"].update(state=[]),
        lambda d, a: a.update({"optimizer.dense.bias.0": np.zeros(5, np.float32)}),
        lambda d, a: d["compile"]["optimizer"].update({"class": "Adam", "config": {}}),
        lambda d, a: a.pop("dense.bias"),
        lambda d, a: a.update({"dense.bias": np.zeros(5, np.float32)}),
    ],
)
def test_a_description_that_does_not_hold_together_is_refused(saved, change):
    rewrite(saved, change)
    with pytest.raises(ModelFileError, match=r"model\.safetensors: ") as caught:
        load_model(saved, backend="im2col")
    assert "\n" not in str(caught.value)


def test_damaged_json_is_refused(saved):
    with safe_open(saved, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for damaged in ("{", "[]", "[" * 100_000):
        save_file(arrays, saved, {"fastcnn": damaged})
        with pytest.raises(ModelFileError, match="damaged"):
            load_model(saved)


def test_a_place_that_cannot_be_written_is_named_and_stays_as_it_was(tmp_path, monkeypatch):
    model = trained()
    with pytest.raises(ModelFileError, match=r"model\.st: can't be written \(No such file"):
        model.save(tmp_path / "nowhere" / "model.st")
    with pytest.raises(ModelFileError, match="Is a directory"):
        model.save(tmp_path)
    path = tmp_path / "model.st"
    path.write_bytes(b"precious")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ModelFileError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["model.st"]


@pytest.mark.skipif(os.name != "posix", reason="file modes and links of POSIX")
def test_a_new_file_has_the_usual_mode_and_a_link_is_followed(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    model = trained()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == usual
    assert sorted(os.listdir(tmp_path)) == ["link", "plain", "target"]
