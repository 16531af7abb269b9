"""Text that tries to leave the place it is put in, and models that hold it everywhere."""

from __future__ import annotations

STEERING = (
    "\x1b[31mred\x1b]0;title\x07",
    "over\rwritten\x08\x7f",
    "two\nlines\u2028three\x0cfour",
    "\x9b31m\x85",
    "\u202egpj.exe\u2066\u200f\u200b\ufeff",
    "tag\U000e0041\U000e007f",
)
MARKUP = ("enc[/conv]", "[bold]b[/bold]", ":smiley:", "[link=http://x]y[/link]", "$x_{$", "</svg>&")
CODE = (
    'x"""\nimport os\nos.abort()\n"""',
    "a\\N{x}\\",
    "'); __import__('os').abort(); ('",
    '"+__import__("os").abort()+"',
    "{__import__('os').abort()}",
    "__import__('os').abort()",
    "os",
    "\uff4f\uff53",
    "__init__",
    "__class__.__base__",
    "None",
    "class",
    "self",
    "build",
    "load",
    "torch",
    "torch.os",
    "nn",
    "F",
    "forward",
    "1e9",
    "0",
    "\ue0000\ue003",
    "\ue001a.b\ue003",
    "\ue002size=1\ue003",
    "IMPORTS",
    "a.b.__dict__.c",
    "x" * 5000,
    "",
)
HOSTILE = (*STEERING, *MARKUP, *CODE)
