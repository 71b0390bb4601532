"""What the fakes write down of sound: the words that `said` put into it. Pure.

Answers as OpenAI's API does: `whisper-...` has all formats and bills seconds, `gpt-4o-...` has JSON
alone and bills tokens; a model named `bare-...` tells its text and nothing else, as Zhipu's does.
"""

from __future__ import annotations

import io
import wave
from typing import Any, Final

import msgspec

FORMATS: Final = {"json": "", "text": "text/plain", "srt": "text/plain", "vtt": "text/vtt",
                  "verbose_json": ""}  # fmt: skip
_RATE_HZ = 8000
_MARK, _END = b"SAY:", b"\0"
_encode = msgspec.json.encode


def said(text: str, seconds: float = 1.0) -> bytes:
    """A WAV file of that length in which the fakes hear the text; lines are segments."""
    samples = (_MARK + text.encode() + _END).ljust(int(seconds * _RATE_HZ) * 2, _END)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE_HZ)
        sound.writeframes(samples[: int(seconds * _RATE_HZ) * 2])
    return file.getvalue()


def answered(form: dict[str, Any], file: bytes) -> tuple[str, bytes] | str:
    """Content type and body, or what is wrong with the request."""
    model, wanted = str(form.get("model", "")), form.get("response_format", "json")
    if not file:
        return "file: field required"
    try:
        with wave.open(io.BytesIO(file)) as sound:
            seconds = sound.getnframes() / sound.getframerate()
            samples = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError):
        return "Audio file might be corrupted or unsupported"
    if wanted not in FORMATS or (wanted != "json" and not model.startswith("whisper")):
        return f"response_format '{wanted}' is not compatible with model '{model}'."
    if "timestamp_granularities[]" in form and wanted != "verbose_json":
        return "timestamp_granularities: only with verbose_json"
    text = samples.removeprefix(_MARK).partition(_END)[0].decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line]
    told: dict[str, Any] = {"text": " ".join(lines)}
    if not model.startswith("bare"):
        told["usage"] = _usage(model, seconds, told["text"])
    if wanted == "json":
        return "application/json", _encode(told)
    share = seconds / max(1, len(lines))
    segments = [
        {"id": at, "seek": 0, "start": at * share, "end": (at + 1) * share, "text": f" {line}",
         "tokens": [], "temperature": 0.0, "avg_logprob": -0.1, "compression_ratio": 1.0,
         "no_speech_prob": 0.0}
        for at, line in enumerate(lines)
    ]  # fmt: skip
    if wanted != "verbose_json":
        return FORMATS[str(wanted)], b"the gateway makes these itself"
    told |= {"task": "transcribe", "language": "english", "duration": seconds,
             "segments": segments}  # fmt: skip
    if "word" in form.get("timestamp_granularities[]", ()):
        each = told["text"].split()
        told["words"] = [
            {"word": word, "start": at * 0.1, "end": at * 0.1 + 0.1} for at, word in enumerate(each)
        ]
    return "application/json", _encode(told)


def _usage(model: str, seconds: float, text: str) -> dict[str, Any]:
    if model.startswith("whisper"):
        return {"type": "duration", "seconds": -int(-seconds // 1)}
    heard, wrote = round(seconds * 10), len(text.split())
    return {"type": "tokens", "input_tokens": heard, "output_tokens": wrote,
            "total_tokens": heard + wrote,
            "input_token_details": {"audio_tokens": heard, "text_tokens": 0}}  # fmt: skip
