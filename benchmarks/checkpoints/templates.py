"""Chat templates of the tiny checkpoints: our own words, the real ones' behaviour.

What serving depends on is kept: turn markers, where reasoning is opened, closed and dropped from
history, the switches (`enable_thinking`, `clear_thinking`, `/nothink`), and the form of tool calls
and results. Each template is a line of settings and fragments from the folder `template_parts`.
"""

from pathlib import Path
from typing import Literal

from models.dialect import TEMPLATES

TemplateName = Literal["qwen3", "qwen3-instruct", "qwen3.5", "glm4", "glm4.5", "glm4.7", "reranker"]

FOLDER = Path(__file__).parent / "template_parts"
_QWEN = {
    "picture": "<|vision_start|><|image_pad|><|vision_end|>",
    "film": "<|vision_start|><|video_pad|><|vision_end|>",
}
_GLM: dict[str, str | bool] = {
    "picture": "<|begin_of_image|><|image|><|end_of_image|>",
    "film": "<|begin_of_video|><|video|><|end_of_video|>",
}
RECIPES: dict[TemplateName, tuple[dict[str, str | bool], tuple[str, ...]]] = {
    "qwen3": ({**_QWEN, "thinks": True, "opens_think": False}, ("content", "hermes", "qwen")),
    "qwen3-instruct": (
        {**_QWEN, "thinks": False, "opens_think": False},
        ("content", "hermes", "qwen"),
    ),
    "qwen3.5": ({**_QWEN, "thinks": True, "opens_think": True}, ("content", "qwen_xml", "qwen")),
    "glm4": (_GLM, ("content", "glm4")),
    "glm4.5": (
        {
            **_GLM,
            "gap": "\\n",
            "says_nothink": True,
            "closed_think": "<think></think>",
            "opened_think": "",
        },
        ("content", "glm"),
    ),
    "glm4.7": (
        {
            **_GLM,
            "gap": "",
            "says_nothink": False,
            "closed_think": "</think>",
            "opened_think": "<think>",
        },
        ("content", "glm"),
    ),
    "reranker": ({}, ("qwen3-reranker",)),
}


def chat_template(name: TemplateName) -> str:
    """The Jinja source of a template."""
    settings, fragments = RECIPES[name]
    lines = [f"{{%- set {key} = {_literal(value)} -%}}\n" for key, value in settings.items()]
    parts = [_fragment(f"{name}.jinja").read_text(encoding="utf-8") for name in fragments]
    return "".join([*lines, *parts])


def _fragment(file: str) -> Path:
    """A part of ours, or a whole template that the catalogue serves real models with."""
    part = FOLDER / file
    return part if part.exists() else TEMPLATES / file


def _literal(value: str | bool) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()
