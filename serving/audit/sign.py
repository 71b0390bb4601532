"""Signs checkpoints and reports with Ed25519 (RFC 8032), and says whether a signature holds.

The key file is a PKCS #8 private key in PEM, mode 0600; who verifies needs the public half only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.worded import Worded
from serving.audit.values import Signed
from serving.settings import SettingsError
from serving.settings_words import cannot_read

_encode = msgspec.json.Encoder(order="deterministic").encode
_RAW = serialization.Encoding.Raw, serialization.PublicFormat.Raw


class Signer:
    """Holds the private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes(*_RAW)
        self.fingerprint = fingerprint(self.public)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(data)

    def seal(self, checkpoint: Signed) -> Signed:
        """The checkpoint, signed by this key."""
        named = msgspec.structs.replace(checkpoint, key=self.fingerprint, signature="")
        return msgspec.structs.replace(named, signature=self.sign(covered(named)).hex())


def covered(checkpoint: Signed) -> bytes:
    """What a checkpoint's signature covers."""
    return _encode(msgspec.structs.replace(checkpoint, signature=""))


def digest(checkpoint: Signed) -> str:
    """What the next checkpoint holds of this one."""
    return hashlib.sha256(_encode(checkpoint)).hexdigest()


def holds(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the key's owner signed this."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """A public key's name: short enough to read aloud, too long to forge."""
    return hashlib.sha256(public).hexdigest()[:32]


def new_key() -> str:
    """A private key, for its file."""
    made = Ed25519PrivateKey.generate()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return made.private_bytes(pem, form, serialization.NoEncryption()).decode("ascii")


def read_key(path: Path) -> Signer:
    """The signer of a key file. Raises SettingsError; nothing of the file's text is in it."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise SettingsError(cannot_read("audit.key_file", path, error.strerror)) from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(
            Worded(
                "settings.audit_key",
                "audit.key_file: {path} must hold an Ed25519 private key in PEM",
                path=path,
            )
        )
    return Signer(key)
