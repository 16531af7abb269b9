"""Writing ONNX."""

from redir.backends.onnx.writer import beside, save, to_proto

__all__ = ["beside", "save", "to_proto"]
