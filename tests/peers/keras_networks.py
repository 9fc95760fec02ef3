"""Run by Keras' interpreter: `keras_networks.py FOLDER` reads the networks that test_peers.py wrote there.

Each layer is Keras' of that name, made with our configuration but for what it doesn't know. Back go, in
``results.npz``, in float64, the weights that Keras drew, and loss and outputs with these and with ours. Imports
nothing of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

#: What Keras' layers don't have, or would draw otherwise.
OURS = ("ties", "kernel_initializer", "bias_initializer", "name")


def made(kind: str, config: dict[str, Any]) -> Any:
    known = {name: value for name, value in config.items() if name not in OURS and "_initializer" not in name}
    if kind == "GlobalMaxPooling2D" or kind == "GlobalAveragePooling2D":
        known.pop("trainable")
    return getattr(keras.layers, kind)(**known)


def main(folder: Path) -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    arrays, results = np.load(folder / "arrays.npz"), {}
    for i, network in enumerate(json.loads((folder / "networks.json").read_text())):
        x = arrays[f"{i} x"].astype(np.float64)
        model = keras.Sequential([keras.Input(x.shape[1:])] + [made(*layer[:2]) for layer in network["layers"]])
        loss = getattr(keras.losses, network["loss"])(**network["loss_config"])
        drawn = model.get_weights()
        given = [arrays[f"{i} weights {j}"].astype(np.float64) for j in range(network["weights"])]
        for kind, weights in (("drawn", drawn), ("given", given)):
            model.set_weights(weights)
            outputs = model(x, training=False)
            results[f"{i} {kind} outputs"] = np.asarray(outputs)
            results[f"{i} {kind} loss"] = np.asarray(loss(arrays[f"{i} y"], outputs))
        for j, weight in enumerate(drawn):
            results[f"{i} drawn {j}"] = weight
    np.savez(folder / "results.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
