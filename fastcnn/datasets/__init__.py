"""The embedded MNIST (`fastcnn.datasets.mnist`), and anyone's own folder of four IDX files."""

from __future__ import annotations

from fastcnn import absent
from fastcnn.datasets import mnist
from fastcnn.datasets.folder import check_labels, load_idx_folder
from fastcnn.datasets.idx import read_idx

__all__ = ["check_labels", "load_idx_folder", "mnist", "read_idx"]

__getattr__ = absent.getter(__name__)
