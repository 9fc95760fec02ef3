"""The command line: reads arguments, prints, draws; what it shows is computed elsewhere."""

from fastcnn.cli.commands import app, main

__all__ = ["app", "main"]
