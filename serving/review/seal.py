"""Seals texts at rest: AES-256-GCM, bound to the case they belong to.

A text copied from one case to another does not open; a lost key is a lost text. Keys are rotated by
writing a new first line: old lines still open what they sealed.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.worded import Worded
from serving.review.values import Text
from serving.settings import SettingsError
from serving.settings_words import cannot_read

KEY_BYTES = 32
_NONCE, _MARK = 12, 8
_FORM = b"1"
_INFLATED_MAX = 8 << 20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Text).decode


class SealFault(Exception):  # noqa: N818 - a state
    """The text does not open: no key here sealed it, or it was altered."""


class Seal:
    """Seals with the first key, opens with any."""

    def __init__(self, keys: list[bytes], random_bytes: Callable[[int], bytes]) -> None:
        self._ciphers = {_mark(key): AESGCM(key) for key in keys}
        self._first = _mark(keys[0])
        self._random = random_bytes

    def close(self, case_id: str, text: Text) -> bytes:
        """The text, sealed. About 10 us and 15 ns a byte."""
        nonce = self._random(_NONCE)
        packed = zlib.compress(_encode(text), 1)
        sealed = self._ciphers[self._first].encrypt(nonce, packed, case_id.encode())
        return _FORM + self._first + nonce + sealed

    def open(self, case_id: str, sealed: bytes) -> Text:
        """The text. Raises SealFault."""
        mark, rest = sealed[1 : 1 + _MARK], sealed[1 + _MARK :]
        cipher = self._ciphers.get(mark)
        if sealed[:1] != _FORM or cipher is None:
            raise SealFault(
                Worded(
                    "review.other_key",
                    "no key in review.key_file sealed this text (key {hex})",
                    hex=mark.hex(),
                )
            )
        try:
            packed = cipher.decrypt(rest[:_NONCE], rest[_NONCE:], case_id.encode())
            return _decode(zlib.decompressobj().decompress(packed, _INFLATED_MAX))
        except (InvalidTag, zlib.error, msgspec.DecodeError):
            raise SealFault(
                Worded("review.altered", "the text was altered since it was sealed")
            ) from None


def _mark(key: bytes) -> bytes:
    """Tells keys apart without telling them."""
    return hashlib.sha256(b"ballast review key" + key).digest()[:_MARK]


def read_keys(path: Path) -> list[bytes]:
    """The keys in a file: one a line, 64 hexadecimal digits, the newest first. Raises
    SettingsError; nothing of the file's text is in it."""
    try:
        lines = path.read_text("ascii").split()
        keys = [bytes.fromhex(line) for line in lines]
    except OSError as error:
        raise SettingsError(cannot_read("review.key_file", path, error.strerror)) from None
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise SettingsError(
            Worded(
                "settings.review_key",
                "review.key_file: {path} must hold lines of 64 hexadecimal digits",
                path=path,
            )
        )
    return keys
