"""Which store the settings name, and the keys that seal."""

from __future__ import annotations

from collections.abc import Callable

from models.worded import Worded
from serving.ledger.address import address
from serving.review.base import ReviewStore
from serving.review.postgres import PostgresReviews
from serving.review.seal import Seal, read_keys
from serving.review.sqlite import SqliteReviews
from serving.settings import Settings, SettingsError

FILE, KEY_FILE = "reviews.sqlite", "review-key"


def opener(settings: Settings) -> Callable[[], ReviewStore]:
    """Opens the store. Raises SettingsError at once, ReviewsAway when opened."""
    if settings.ledger.url:
        found = address(settings.ledger)
        return lambda: PostgresReviews.at(found, settings.ledger)
    path = settings.state_dir / FILE
    return lambda: SqliteReviews.open(path)


def sealer(settings: Settings, random_bytes: Callable[[int], bytes]) -> Seal | None:
    """What seals and opens texts; None where no key is and nothing is sampled. Raises
    SettingsError."""
    path = settings.review.key_file or settings.state_dir / KEY_FILE
    if settings.review.key_file is None and not path.exists():
        if settings.review.keeps:
            message = Worded(
                "settings.review_no_key",
                "review: samples are to be kept and there is no key to seal them: "
                "write 64 hexadecimal digits to {path}, or name another file as "
                "review.key_file",
                path=path,
            )
            raise SettingsError(message)
        return None
    return Seal(read_keys(path), random_bytes)
