"""Reading ONNX."""

from redir.frontends.onnx.reader import Overridable, from_proto, is_proto, load

__all__ = ["Overridable", "from_proto", "is_proto", "load"]
