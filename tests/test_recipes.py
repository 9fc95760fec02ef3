"""The recipes: what they build, how they are compiled, that they train on any backend and from what users have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_images import bars

from fastcnn import recipes
from fastcnn.errors import ArgumentError
from fastcnn.layers import Dropout, Rescaling
from fastcnn.optimizers import SGD, Adadelta, Adam
from fastcnn.optimizers.schedules import OneCycle

TUTORIAL = ("blog", "blog-softmax", "blog-keras")
CONVNETS = ("keras-convnet", "small-convnet")
IMAGES, Y = bars(60)
LARGER, LABELS = bars(40, shape=(18, 16), classes=3)


def data(images=IMAGES, labels=Y, tested=20):
    return (images, labels), (images[:tested], labels[:tested])


def test_there_are_the_tutorials_and_the_convnets():
    assert tuple(recipes.RECIPES) == TUTORIAL + CONVNETS
    with pytest.raises(ArgumentError, match="'blog-keras', 'keras-convnet', 'small-convnet'"):
        recipes.train("lenet", data())


@pytest.mark.parametrize("name", TUTORIAL)
def test_recipes_train_on_any_backend_without_a_compiler(name, capsys):
    results = [recipes.train(name, data(), seed=3, epochs=2, backend=b) for b in ("im2col", "reference")]
    assert capsys.readouterr().out == ""
    for result in results:
        report = result.as_dict()
        assert (report["recipe"], report["seed"], report["n_train"], report["n_test"]) == (name, 3, 60, 20)
        assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2]
        assert set(report["epochs"][0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
        assert set(report["seconds"]) == {"compile", "train", "test"}
        assert result.images_per_second == pytest.approx(1e6 / result.microseconds_per_step)
    first, second = (result.history.history["val_loss"] for result in results)
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_the_tutorials_recipes_are_the_tutorials():
    model = recipes.build_model("blog", seed=0)
    rescaling, convolution, pooling, _, dense = model.layers
    assert (rescaling.scale, rescaling.offset, pooling.ties) == (1 / 255, -0.5, "all")
    assert model.count_params() == 72 + 13_520 + 10
    assert convolution.get_weights()[0].std() == pytest.approx(1 / 9, rel=0.3)
    assert dense.get_weights()[0].std() == pytest.approx(1 / 1352, rel=0.02)
    assert (dense.get_weights()[1] == 0).all()
    assert not recipes.build_model("blog-softmax").layers[1].trainable
    keras = recipes.build_model("blog-keras")
    assert (keras.layers[1].use_bias, keras.layers[2].ties) == (True, "first")
    for name in TUTORIAL:
        recipe = recipes.RECIPES[name]
        assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (3, 1, 0.005)
        optimizer = recipes.build_model(name).optimizer
        assert isinstance(optimizer, SGD)
        assert optimizer.plain
    with pytest.raises(ArgumentError, match="3x3 kernel"):
        recipes.build_model("blog", (2, 9, 1))


def test_keras_convnet_is_keras_example():
    recipe = recipes.RECIPES["keras-convnet"]
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (12, 128, 1.0)
    assert [(other.accuracy, other.microseconds_per_step) for other in recipe.published] == [(0.9925, None)]
    model = recipes.build_model(recipe, seed=0)
    assert model.count_params() == 1_199_882  # what Keras' summary of its example says
    assert [layer.rate for layer in model.layers if isinstance(layer, Dropout)] == [0.25, 0.5]
    rescaling = model.layers[0]
    assert isinstance(rescaling, Rescaling)
    assert (rescaling.scale, rescaling.offset) == (1 / 255, 0.0)
    assert isinstance(model.optimizer, Adadelta)
    assert (model.optimizer.learning_rate, model.optimizer.rho, model.optimizer.epsilon) == (1.0, 0.95, 1e-7)
    assert model.optimizer.use_ema
    assert model.optimizer.ema_momentum == pytest.approx(1 - 1 / 469)  # over an epoch's steps


def test_keras_convnet_is_tested_and_left_with_the_averages_of_its_weights():
    for epochs, momentum in ((1, 0.0), (2, 0.4)):  # 10 steps and 20
        result = recipes.train(
            "keras-convnet", data(LARGER, LABELS), epochs=epochs, batch_size=4, backend="im2col", seed=0
        )
        optimizer, kernel = result.model.optimizer, result.model.layers[-1].parameters["kernel"]
        assert optimizer.ema_momentum == pytest.approx(momentum)
        np.testing.assert_array_equal(kernel.value, optimizer.get_state(kernel)[-1])
        loss = result.model.evaluate(LARGER[:20], LABELS[:20], verbose=0)[0]
        assert result.history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)


def test_small_convnet_follows_one_cycle_over_the_whole_training():
    recipe = recipes.RECIPES["small-convnet"]
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (1, 256, 0.01)
    model = recipes.build_model(recipe, seed=0)
    shapes = [layer.output_shape for layer in model.layers if layer.count_params()]
    assert shapes == [(24, 24, 24), (10, 10, 32), (256,), (10,)]
    kinds = [type(layer).__name__ for layer in model.layers[:7]]
    assert kinds == ["Rescaling", "Conv2D", "MaxPooling2D", "ReLU", "Conv2D", "MaxPooling2D", "ReLU"]
    assert isinstance(model.optimizer, Adam)
    assert (model.optimizer.beta_1, model.optimizer.beta_2) == (0.7, 0.9)
    schedule = OneCycle(**model.optimizer.get_config()["learning_rate"]["config"])
    assert (schedule.max_learning_rate, schedule.total_steps) == (0.01, 235)


def test_the_cycle_ends_with_the_training():
    """Whatever the number of images, epochs and the batch size; and it is there where one step is all."""
    for epochs, size, steps in ((1, 40, 1), (3, 7, 18), (2, 256, 2)):
        result = recipes.train(
            "small-convnet", data(LARGER, LABELS), epochs=epochs, batch_size=size, backend="im2col", seed=0
        )
        optimizer = result.model.optimizer
        assert optimizer.iterations == steps
        config = optimizer.get_config()["learning_rate"]["config"]
        assert (config["total_steps"], config["max_learning_rate"]) == (max(steps, 2), 0.01)
    rate = recipes.build_model("small-convnet", learning_rate=0.5, steps=9).optimizer.get_config()["learning_rate"]
    assert (rate["config"]["total_steps"], rate["config"]["max_learning_rate"]) == (9, 0.5)


@pytest.mark.parametrize("name", CONVNETS)
def test_convnets_take_images_of_other_sizes_and_classes(name):
    colours = np.repeat(LARGER[..., None], 3, axis=3)
    for images in (LARGER, colours):
        result = recipes.train(name, data(images, LABELS), epochs=1, limit=30, backend="im2col", seed=0)
        assert result.model.input_shape == (None, 18, 16, 3 if images is colours else 1)
        assert result.model.output_shape == (None, 3)
        assert (result.n_train, result.n_test) == (30, 20)
    again = recipes.train(name, data(images, LABELS), epochs=1, limit=30, backend="im2col", seed=0)
    for one, other in zip(result.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ArgumentError, match=r"conv2d.*kernel does not fit"):
        recipes.build_model(name, (2, 2, 1))


@pytest.mark.parametrize("name", CONVNETS)
def test_convnets_learn(name):
    images, labels = bars(200, shape=(18, 16))
    result = recipes.train(name, data(images, labels, 100), epochs=10, batch_size=20, seed=0)
    losses = result.history.history["loss"]
    assert losses[-1] < losses[0] / 3
    assert result.history.history["val_accuracy"][-1] > 0.9


def test_ones_own_recipe_may_say_all_of_it():
    own = replace(
        recipes.RECIPES["small-convnet"],
        name="own",
        optimizer=lambda rate, steps: SGD(rate / steps, momentum=0.5),
        batch_size=10,
        learning_rate=0.2,
        epochs=2,
        published=(),
    )
    result = recipes.train(own, data(LARGER, LABELS), backend="im2col", seed=0)
    assert result.as_dict()["recipe"] == result.model.name == "own"
    assert result.model.optimizer.learning_rate == pytest.approx(0.2 / 8)


@pytest.mark.parametrize("argument", ["epochs", "batch_size", "limit", "learning_rate", "seed"])
def test_bad_arguments_are_named(argument):
    with pytest.raises(ArgumentError, match=f"{argument}=-1"):
        recipes.train("small-convnet", data(LARGER, LABELS), backend="im2col", **{argument: -1})
