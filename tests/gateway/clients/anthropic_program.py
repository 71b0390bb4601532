"""The official `anthropic` package; its base URL has no /v1."""

from anthropic import Anthropic
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, WEATHER, told

client = Anthropic(base_url=URL.removesuffix("/v1"), api_key=KEY, max_retries=0)
ASK = [{"role": "user", "content": QUESTION}]
TOOLS = [{"name": "weather", "description": "of a city", "input_schema": WEATHER}]


def chat():
    found = client.messages.create(model=OWN, max_tokens=12, messages=ASK, system="be brief")
    assert found.content[0].text
    assert found.usage.output_tokens == 12


def stream():
    with client.messages.stream(model=OWN, max_tokens=12, messages=ASK) as events:
        text = "".join(events.text_stream)
        assert text == events.get_final_message().content[0].text


def tools():
    asked = client.messages.create(model=API, max_tokens=60, messages=ASK, tools=TOOLS)
    call = next(block for block in asked.content if block.type == "tool_use")
    assert (call.name, call.input) == ("weather", CALLED)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": ANSWER}
    said = [
        *ASK,
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result]},
    ]
    ended = client.messages.create(model=API, max_tokens=60, messages=said, tools=TOOLS)
    assert ended.content[0].text


def stream_tools():
    with client.messages.stream(model=API, max_tokens=60, messages=ASK, tools=TOOLS) as events:
        found = events.get_final_message()
    assert next(block for block in found.content if block.type == "tool_use").input == CALLED


told(chat=chat, stream=stream, tools=tools, stream_tools=stream_tools)
