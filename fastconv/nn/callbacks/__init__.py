"""Callbacks: what :meth:`Model.fit` calls as it goes, with Keras' names and arguments."""

from fastconv.nn.callbacks._base import Callback, History, Logs
from fastconv.nn.callbacks.csv_logger import CSVLogger
from fastconv.nn.callbacks.diagnose import Diagnose
from fastconv.nn.callbacks.early_stopping import EarlyStopping
from fastconv.nn.callbacks.lambda_callback import LambdaCallback
from fastconv.nn.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from fastconv.nn.callbacks.model_checkpoint import ModelCheckpoint
from fastconv.nn.callbacks.progress import Progress
from fastconv.nn.callbacks.tensorboard import TensorBoard
from fastconv.nn.callbacks.terminate_on_nan import TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "Diagnose",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "Progress",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
