"""What fastcnn raises when something outside it is wrong: each message says what, what was expected, what to do."""


class FastcnnError(Exception):
    """The base of every error that fastcnn raises on purpose; the command line prints it in one line."""


class ArgumentError(FastcnnError, ValueError):
    """An argument, an array's shape, or a label is not what the operation takes."""


class AbsentError(FastcnnError, ImportError):
    """Keras has it, fastcnn has not; the message says what to use instead."""


class DataError(FastcnnError, ValueError):
    """A data file is missing, damaged, or disagrees with its sibling."""


class ModelFileError(FastcnnError, ValueError):
    """A model file can't be read, can't be written, or holds another network."""


class DivergedError(FastcnnError, ArithmeticError):
    """Training reached a loss that is not finite; the message names the step."""
