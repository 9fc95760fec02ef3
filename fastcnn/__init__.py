"""fastcnn: train convolutional networks on a CPU, from Python, at the speed the silicon allows."""

__version__ = "0.1.0"
