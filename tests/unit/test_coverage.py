"""What a call needs of its target beside words."""

from __future__ import annotations

import msgspec
import pytest

from serving.codecs.coverage import PICTURES, needs
from serving.codecs.openai import RESERVED


def of(messages):
    return needs({"messages": msgspec.Raw(messages)}, RESERVED) - {"messages"}


@pytest.mark.parametrize(
    ("messages", "found"),
    [(b'[{"content":[{"type":"image_url","image_url":{"url":"x"}}]}]', {PICTURES}),
     (b'[{"content":[{"image_url" :\n {"url":"x"}}]}]', {PICTURES}),
     (b'[{"content":[{"input_audio":{}},{"video_url":{}}]}]', {"messages=sound", "messages=video"}),
     (b'[{"content":[{"file":{"file_data":"x"}}]}]', {"messages=files"}),
     (rb'[{"content":"say \"image_url\": twice"}]', set()),
     (b'[{"content":"image_url"}]', set())],
    ids=["picture", "spaced", "sound-and-video", "file", "quoted", "a-word"],
)  # fmt: skip
def test_a_part_that_is_no_text_is_a_need_and_a_text_about_one_is_none(messages, found):
    assert of(messages) == found
