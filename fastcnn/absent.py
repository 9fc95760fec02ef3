"""What Keras has and fastcnn has not, with what to use instead: for error messages, and nothing else.

People change a script's `keras` to `fastcnn`, or type first what PyTorch or scikit-learn taught them. Where that asks
for something that isn't here, the error names it and the nearest that is. It is an ImportError also where an attribute
was asked for, because of an AttributeError ``from fastcnn.layers import X`` would say no more than that it can't import
X.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from fastcnn.errors import AbsentError

_OTHER_LIBRARIES = "fastcnn is for convolutional networks on images; use Keras or PyTorch for others"
_IMAGES_ONLY = "use the 2D layer, on images (samples, height, width, channels); Reshape makes some of other samples"
_STRAIGHT = "networks with branches are not available: layers follow each other in Sequential"
_AUGMENTATION = "use RandomFlip, RandomTranslation, RandomRotation and RandomZoom, or change the images with numpy"
_PENALTY = "use the optimizer's weight_decay, as AdamW has it"
_ACCURACY = "pass metrics=['accuracy'] to compile; compute others from model.predict(x)"
_OPTIMIZERS = "use Adam, AdamW, RMSprop, Adadelta or SGD"
_IMPORT_FROM_LAYERS = "import layers from fastcnn.layers"

#: By module, the advice for the names in its list.
NAMES: dict[str, dict[str, str]] = {
    "fastcnn": {
        _STRAIGHT: "Model Functional",
        "make it of Sequential and fastcnn.layers": "KerasTensor Variable Layer Loss Metric Optimizer Initializer",
    },
    "fastcnn.models": {
        _STRAIGHT: "Model Functional",
        "use load_model(path): the file holds the architecture, too": "model_from_json model_from_yaml",
        "make the model again, then set_weights": "clone_model",
        "use model.save(path)": "save_model",
    },
    "fastcnn.layers": {
        "use Conv2D": (
            "SeparableConv2D DepthwiseConv2D SeparableConvolution2D Conv2DTranspose Convolution2DTranspose "
            "Deconvolution2D LocallyConnected2D Conv2d"
        ),
        "use Dense": "Linear",
        "use MaxPooling2D": "MaxPool2d",
        _IMAGES_ONLY: (
            "Conv1D Convolution1D SeparableConv1D DepthwiseConv1D Conv1DTranspose MaxPooling1D MaxPool1D "
            "AveragePooling1D AvgPool1D GlobalMaxPooling1D GlobalMaxPool1D GlobalAveragePooling1D GlobalAvgPool1D "
            "ZeroPadding1D UpSampling1D Cropping1D Conv3D Convolution3D Conv3DTranspose MaxPooling3D MaxPool3D "
            "AveragePooling3D AvgPool3D GlobalMaxPooling3D GlobalAveragePooling3D ZeroPadding3D UpSampling3D Cropping3D"
        ),
        _OTHER_LIBRARIES: (
            "LSTM GRU SimpleRNN RNN LSTMCell GRUCell ConvLSTM1D ConvLSTM2D Bidirectional TimeDistributed Embedding "
            "Attention AdditiveAttention MultiHeadAttention Masking TextVectorization StringLookup"
        ),
        _STRAIGHT: "Add add Concatenate concatenate Multiply multiply Average average Subtract Maximum Minimum Dot dot",
        "write what it does as a layer that is here, or do it to the images with numpy": "Lambda Wrapper TFSMLayer",
        "use BatchNormalization": (
            "LayerNormalization GroupNormalization UnitNormalization SpectralNormalization RMSNormalization"
        ),
        "use Dropout": "SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise",
        "use LeakyReLU, ReLU or Activation": "ELU PReLU ThresholdedReLU",
        "use Rescaling or BatchNormalization": "Normalization",
        "change the images with numpy before fit": "Resizing CenterCrop Cropping2D UpSampling2D",
        _AUGMENTATION: (
            "RandomCrop RandomContrast RandomBrightness RandomHeight RandomWidth RandomShear RandomHue "
            "RandomSaturation RandomErasing RandomPerspective RandomGaussianBlur RandAugment AugMix MixUp CutMix"
        ),
        "use Input(shape)": "InputLayer InputSpec",
        "use Reshape": "Permute RepeatVector",
        _PENALTY: "ActivityRegularization",
    },
    "fastcnn.optimizers": {
        _OPTIMIZERS: "Nadam Adamax Adagrad Ftrl Lion Lamb Muon Adafactor LossScaleOptimizer",
    },
    "fastcnn.optimizers.schedules": {
        "use ExponentialDecay, CosineDecay, PiecewiseConstantDecay, OneCycle, or the callback LearningRateScheduler": (
            "PolynomialDecay InverseTimeDecay CosineDecayRestarts"
        ),
    },
    "fastcnn.losses": {
        "end in Dense(2, activation='softmax') and use SparseCategoricalCrossentropy": (
            "BinaryCrossentropy binary_crossentropy BinaryFocalCrossentropy Hinge hinge SquaredHinge"
        ),
        "use CategoricalCrossentropy": "KLDivergence CategoricalHinge CategoricalFocalCrossentropy Poisson",
        "use MeanSquaredError": (
            "MeanAbsoluteError mean_absolute_error mae MeanAbsolutePercentageError MeanSquaredLogarithmicError Huber "
            "LogCosh CosineSimilarity"
        ),
    },
    "fastcnn.callbacks": {
        "use CSVLogger": "TensorBoard RemoteMonitor",
        "fit stops by itself, with a DivergedError, where the loss is no longer finite": "TerminateOnNaN",
        "use ModelCheckpoint, and load_model to go on": "BackupAndRestore",
        "fit returns it": "History",
        "use ProgressBar": "ProgbarLogger",
    },
    "fastcnn.utils": {
        "use model.summary()": "plot_model model_to_dot",
        "use fastcnn.utils.to_categorical": "np_utils",
        "use numpy arrays: fit takes x and y whole": "Sequence PyDataset image_dataset_from_directory",
        "divide the images by 255, or use the layer Rescaling": "normalize",
        "load models of layers that are here": "custom_object_scope CustomObjectScope get_custom_objects",
    },
    "fastcnn.datasets": {
        "mnist is here; load_idx_folder(folder) reads four IDX files, and fit takes any numpy arrays": (
            "cifar10 cifar100 fashion_mnist imdb reuters boston_housing california_housing"
        ),
    },
    "fastcnn.initializers": {
        "use GlorotUniform, HeNormal or LecunNormal": "VarianceScaling Orthogonal OrthogonalInitializer",
        "use model.set_weights": "Identity IdentityInitializer",
    },
}
#: Whole modules.
MODULES: dict[str, str] = {
    "fastcnn.activations": "pass its name: activation='relu'",
    "fastcnn.applications": "build the network of fastcnn.layers",
    "fastcnn.constraints": "constraints are not available; clip gradients with the optimizer's clipnorm",
    "fastcnn.keras": "it has Keras' names itself: import fastcnn as keras",
    "fastcnn.metrics": _ACCURACY,
    "fastcnn.nn": _IMPORT_FROM_LAYERS,
    "fastcnn.ops": "use numpy",
    "fastcnn.optim": "import optimizers from fastcnn.optimizers",
    "fastcnn.preprocessing": f"in place of ImageDataGenerator {_AUGMENTATION}",
    "fastcnn.random": "use numpy",
    "fastcnn.regularizers": _PENALTY,
    "fastcnn.wrappers": "call fit and predict yourself",
    "fastcnn.layers.advanced_activations": _IMPORT_FROM_LAYERS,
    "fastcnn.layers.convolutional": _IMPORT_FROM_LAYERS,
    "fastcnn.layers.experimental": _IMPORT_FROM_LAYERS,
    "fastcnn.layers.merge": _STRAIGHT,
    "fastcnn.layers.noise": _IMPORT_FROM_LAYERS,
    "fastcnn.layers.normalization": _IMPORT_FROM_LAYERS,
    "fastcnn.layers.recurrent": _OTHER_LIBRARIES,
    "fastcnn.optimizers.legacy": "import optimizers from fastcnn.optimizers",
}
_FIT = "use fit, evaluate or predict with whole numpy arrays"
#: Methods of a model.
METHODS = {
    "fit_generator": _FIT,
    "evaluate_generator": _FIT,
    "predict_generator": _FIT,
    "predict_on_batch": "use predict",
    "test_on_batch": "use evaluate",
    "predict_classes": "use predict(x).argmax(axis=1)",
    "predict_proba": "use predict",
    "to_json": "use save(path): the file holds the architecture, too",
    "to_yaml": "use save(path): the file holds the architecture, too",
    "export": "use save(path)",
    "add_loss": "give compile a loss",
    "add_metric": _ACCURACY,
    "trainable_weights": "use get_weights()",
    "parameters": "use get_weights()",
    "state_dict": "use save(path)",
    "load_state_dict": "use load_weights(path)",
    "train": "use fit",
    "forward": "use predict",
    "score": "use evaluate",
    "partial_fit": "use train_on_batch",
}
_CHANNELS = "channels come last: give images as x.transpose(0, 2, 3, 1)"
#: Arguments that are not taken.
ARGUMENTS = {
    "data_format": _CHANNELS,
    "kernel_regularizer": _PENALTY,
    "bias_regularizer": _PENALTY,
    "activity_regularizer": _PENALTY,
    "weighted_metrics": _ACCURACY,
    "steps_per_epoch": _FIT,
    "validation_steps": _FIT,
    "dtype": "layers compute in the model's dtype: Sequential(layers, dtype='float64', backend='im2col')",
}


def advice(owner: str, name: str) -> str | None:
    """What to use instead of something of Keras' that `owner`, a module or ``"Sequential"``, lacks; or None."""
    if owner == "Sequential":
        return METHODS.get(name)
    for instead, absent in NAMES.get(owner, {}).items():
        if name in absent.split():
            return instead
    return MODULES.get(f"{owner}.{name}")


def getter(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__``.

    It raises an AbsentError for what Keras has there, and the usual AttributeError for everything else.
    """

    def __getattr__(name: str) -> Any:
        instead = advice(module, name)
        if instead is not None:
            raise AbsentError(f"{module} has no {name}; {instead}", name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules[module])

    return __getattr__


class Finder:
    """The last in `sys.meta_path`: it sees only what nobody else found, and raises where it has advice."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        if name in MODULES:
            module, _, last = name.rpartition(".")
            raise AbsentError(f"{module} has no {last}; {MODULES[name]}", name=name)
