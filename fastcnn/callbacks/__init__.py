"""Callbacks: what is told of training while it runs, under Keras' names, and the progress bar."""

from __future__ import annotations

from fastcnn import absent
from fastcnn.callbacks.base import Callback, CallbackList, Logs
from fastcnn.callbacks.control import (
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ReduceLROnPlateau,
    SwapEMAWeights,
)
from fastcnn.callbacks.monitor import Monitor
from fastcnn.callbacks.progress import ProgressBar, figures, report, verbose_level
from fastcnn.callbacks.records import CSVLogger, ModelCheckpoint

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "Monitor",
    "ProgressBar",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "figures",
    "report",
    "verbose_level",
]

__getattr__ = absent.getter(__name__)
