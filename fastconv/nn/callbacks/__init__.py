"""Callbacks: what :meth:`Model.fit` calls as it goes, with Keras' names and arguments."""

from fastconv.nn.callbacks._base import Callback, History, Logs
from fastconv.nn.callbacks.diagnose import Diagnose
from fastconv.nn.callbacks.early_stopping import EarlyStopping
from fastconv.nn.callbacks.progress import Progress
from fastconv.nn.callbacks.tensorboard import TensorBoard

__all__ = ["Callback", "Diagnose", "EarlyStopping", "History", "Logs", "Progress", "TensorBoard"]
