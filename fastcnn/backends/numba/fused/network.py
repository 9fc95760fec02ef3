"""The tutorial network, whole: convolution, 2x2 max-pooling, dense, softmax and plain SGD in compiled loops.

`FusedNetwork` keeps the weights in the kernels' layout between calls and gives them back in the public one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from fastcnn.backends.numba.fused.batch import chunks_of, infer, train_batches
from fastcnn.backends.numba.fused.block import BlockWorkspace, block_workspace
from fastcnn.backends.numba.fused.each import Workspace, one_image_workspace, train_each
from fastcnn.backends.numba.fused.geometry import BLOCK, Geometry, Network, task_rows
from fastcnn.backends.numba.packing import aligned_zeros
from fastcnn.backends.numba.simd import LANES

#: Fewer images than this are not worth another thread.
_IMAGES_A_THREAD = 256

#: The logit of a class that only pads a block of ten: its probability is zero.
_NO_CLASS = np.float32(-1e30)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


class FusedNetwork:
    """A convolution ("valid", stride 1), 2x2 max-pooling and a dense softmax layer, trained by plain SGD.

    Args:
        image_shape: height, width and channels of an image.
        filters: (kh, kw, C, F).
        conv_bias: (F,), or None for a convolution without.
        weights: (pooled height * pooled width * F, classes); the inputs in the order (row, column, filter).
        bias: (classes,).
        scale: with `offset`, what is done to each pixel first: ``pixel * scale + offset``.
        offset: see `scale`.
        ties: whether of several greatest elements in a pooling window the "first" or "all" receive the gradient.
        train_conv: False leaves the convolution as it is.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        filters: NDArray[Any],
        conv_bias: NDArray[Any] | None,
        weights: NDArray[Any],
        bias: NDArray[Any],
        *,
        scale: float = 1.0,
        offset: float = 0.0,
        ties: Literal["first", "all"] = "first",
        train_conv: bool = True,
    ) -> None:
        height, width, channels = image_shape
        kernel_height, kernel_width, _, count = filters.shape
        pooled_height, pooled_width = (height - kernel_height + 1) // 2, (width - kernel_width + 1) // 2
        classes = bias.size
        vectors = _up(pooled_height * pooled_width, LANES) // LANES
        plane = _up((kernel_height // 2 + 1) * pooled_width + (vectors + 1) * LANES, LANES)
        taps = kernel_height * kernel_width * channels
        row, blocks = _up(taps + 1, 16), _up(classes, BLOCK) // BLOCK
        padded = _up(blocks * BLOCK + LANES, LANES)
        dense = count * blocks * vectors * BLOCK * LANES
        self._geometry = g = Geometry(
            height=height,
            width=width,
            channels=channels,
            kernel_height=kernel_height,
            kernel_width=kernel_width,
            filters=count,
            classes=classes,
            pooled_height=pooled_height,
            pooled_width=pooled_width,
            vectors=vectors,
            plane=plane,
            planes=2 * channels * (kernel_width + 1) * plane,
            image=channels * height * width + 2 * LANES + kernel_width,
            row=row,
            blocks=blocks,
            padded=padded,
            dense=dense,
            parameters=dense + count * row + padded,
            conv_bias=conv_bias is not None,
            first_only=ties == "first",
            train_conv=train_conv,
        )
        flat = aligned_zeros(g.parameters)
        flat[:dense] = _pack(g, weights)
        rows = flat[dense : dense + count * row].reshape(count, row)
        rows[:, :taps] = filters.transpose(3, 2, 0, 1).reshape(count, taps)
        if conv_bias is not None:
            rows[:, taps] = conv_bias
        flat[-padded:] = _NO_CLASS
        flat[-padded:][:classes] = bias
        self._network = Network(
            filters=rows.reshape(-1),
            weights=flat[:dense],
            bias=flat[-padded:],
            scaling=np.array([scale, offset], np.float32),
        )
        self._one_image: dict[type, Workspace] = {}
        self._blocks: dict[tuple[type, int], BlockWorkspace] = {}
        self._gradients: dict[int, NDArray[np.float32]] = {}

    def train(
        self,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        order: NDArray[np.int64],
        learning_rate: float,
        batch_size: int,
    ) -> tuple[float, int, int]:
        """Take one SGD step for each batch of `order`.

        Args:
            images: (N, H, W, C), uint8 or float32, contiguous.
            labels: (N,).
            order: (M,): the samples to visit, in this order; a last batch may be short.
            learning_rate: of the mean gradient of a batch.
            batch_size: samples a step.

        Returns:
            The sum of the losses, the number of right guesses (both of the forward pass before each update), and how
            many samples were learnt: less than M where the loss of sample number ``done`` was not finite.
        """
        if batch_size == 1:
            return train_each(
                self._geometry,
                images.reshape(-1),
                labels,
                order,
                np.float32(learning_rate),
                self._network,
                self._one_image_workspace(images.dtype.type),
            )
        chunks = chunks_of(min(batch_size, order.size))
        losses, hits = np.empty(order.size), np.empty(order.size, np.uint8)
        done = train_batches(
            self._geometry,
            images.reshape(-1),
            labels,
            order,
            batch_size,
            np.float32(learning_rate),
            self._network,
            self._block_workspace(images.dtype.type, min(chunks, numba.get_num_threads())),
            self._gradients_of(chunks),
            losses,
            hits,
        )
        return float(losses[:done].sum()), int(np.count_nonzero(hits[:done])), done

    def evaluate(self, images: NDArray[Any], labels: NDArray[np.int64]) -> tuple[float, int]:
        """The sum of the losses and the number of right guesses on images (N, H, W, C) with labels (N,)."""
        _, losses, hits = self._infer(images, labels)
        return float(losses.sum()), int(np.count_nonzero(hits))

    def predict(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities (N, classes) of images (N, H, W, C)."""
        return self._infer(images, np.zeros(len(images), np.int64))[0]

    def _infer(
        self, images: NDArray[Any], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]]:
        count = len(images)
        probabilities = np.empty((count, self._geometry.classes), np.float32)
        losses, hits = np.empty(count), np.empty(count, np.uint8)
        tasks = max(1, min(count // _IMAGES_A_THREAD, numba.get_num_threads()))
        work = self._block_workspace(images.dtype.type, tasks)
        flat, order = images.reshape(-1), np.arange(count, dtype=np.int64)
        bounds = [count * task // tasks for task in range(tasks + 1)]

        def run(task: int) -> None:
            low, high = bounds[task], bounds[task + 1]
            infer(
                self._geometry,
                flat,
                labels,
                order,
                low,
                high,
                task,
                self._network,
                work,
                probabilities,
                losses,
                hits,
            )

        if tasks == 1:
            run(0)
        else:
            with ThreadPoolExecutor(tasks) as pool:
                list(pool.map(run, range(tasks)))
        return probabilities, losses, hits

    def _one_image_workspace(self, pixel: type) -> Workspace:
        if pixel not in self._one_image:
            self._one_image[pixel] = one_image_workspace(self._geometry, pixel)
        return self._one_image[pixel]

    def _gradients_of(self, chunks: int) -> NDArray[np.float32]:
        if chunks not in self._gradients:
            self._gradients[chunks] = task_rows(chunks, self._geometry.parameters)
        return self._gradients[chunks]

    def _block_workspace(self, pixel: type, tasks: int) -> BlockWorkspace:
        key = pixel, tasks
        if key not in self._blocks:
            self._blocks[key] = block_workspace(self._geometry, tasks, pixel)
        return self._blocks[key]

    def weights(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32], NDArray[np.float32]]:
        """Fresh arrays in the layouts of the constructor: filters, conv_bias (or None), weights, bias."""
        g = self._geometry
        taps = g.channels * g.kernel_height * g.kernel_width
        rows = self._network.filters.reshape(g.filters, g.row)
        filters = rows[:, :taps].reshape(g.filters, g.channels, g.kernel_height, g.kernel_width).transpose(2, 3, 1, 0)
        return (
            np.ascontiguousarray(filters),
            rows[:, taps].copy() if g.conv_bias else None,
            _unpack(g, self._network.weights),
            self._network.bias[: g.classes].copy(),
        )


def _pack(g: Geometry, weights: NDArray[Any]) -> NDArray[np.float32]:
    """Dense weights (windows * F, classes) to [filter][block][vector][10][LANES], padding zero."""
    windows = g.pooled_height * g.pooled_width
    by_class = np.zeros((g.blocks * BLOCK, g.filters, g.vectors * LANES), np.float32)
    by_class[: g.classes, :, :windows] = weights.reshape(windows, g.filters, g.classes).transpose(2, 1, 0)
    return by_class.reshape(g.blocks, BLOCK, g.filters, g.vectors, LANES).transpose(2, 0, 3, 1, 4).reshape(-1)


def _unpack(g: Geometry, packed: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `_pack`."""
    windows = g.pooled_height * g.pooled_width
    blocks = packed.reshape(g.filters, g.blocks, g.vectors, BLOCK, LANES).transpose(1, 3, 0, 2, 4)
    by_class = blocks.reshape(g.blocks * BLOCK, g.filters, g.vectors * LANES)[: g.classes, :, :windows]
    return np.ascontiguousarray(by_class.transpose(2, 1, 0)).reshape(windows * g.filters, g.classes)
