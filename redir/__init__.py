"""redir removes redundancy from neural networks, without data."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redir import ops, passes
    from redir.app.api import compress, plan
    from redir.errors import RedirError
    from redir.io.models import from_torch, load, save, to_torch
    from redir.ir import Graph
    from redir.pipeline import Pass, Pipeline

__all__ = [
    "Graph",
    "Pass",
    "Pipeline",
    "RedirError",
    "compress",
    "from_torch",
    "load",
    "ops",
    "passes",
    "plan",
    "save",
    "to_torch",
]
__version__ = "0.1.0"
_HOME = Path(__file__).parent
if not (_HOME / "passes").is_dir():
    # A checkout, where some packages lie beside this one. Python that is started in it finds this
    # folder before what is installed.
    __path__.append(str(_HOME.parent))
_ROOMS = {
    "redir.app.api": ("compress", "plan"),
    "redir.errors": ("RedirError",),
    "redir.io.models": ("from_torch", "load", "save", "to_torch"),
    "redir.ir": ("Graph",),
    "redir.pipeline": ("Pass", "Pipeline"),
}


def __getattr__(name: str) -> Any:
    """A name of redir's, whose module is imported when it is first asked for."""
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is not None:
        globals()[name] = getattr(import_module(room), name)
        return globals()[name]
    try:
        return import_module(f"redir.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"redir.{name}":
            raise
        raise AttributeError(f"module 'redir' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
