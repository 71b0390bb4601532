"""LiteLLM as a library: the prefix `openai/` means any server of that dialect."""

import json

import litellm
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, WEATHER, told

ASK = [{"role": "user", "content": QUESTION}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
AT = {"api_base": URL, "api_key": KEY}


def chat():
    found = litellm.completion(model=f"openai/{OWN}", messages=ASK, max_tokens=12, **AT)
    assert found.choices[0].message.content
    assert found.usage.completion_tokens == 12


def stream():
    events = list(
        litellm.completion(
            model=f"openai/{OWN}", messages=ASK, max_tokens=12, stream=True,
            stream_options={"include_usage": True}, **AT,
        )
    )  # fmt: skip
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert len(text.split()) == 12
    assert [e.usage for e in events if getattr(e, "usage", None)][-1].completion_tokens == 12


async def tools():
    asked = await litellm.acompletion(model=f"openai/{API}", messages=ASK, tools=TOOLS, **AT)
    call = asked.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == CALLED
    result = {"role": "tool", "tool_call_id": call.id, "content": ANSWER}
    said = [*ASK, asked.choices[0].message.model_dump(), result]
    ended = await litellm.acompletion(model=f"openai/{API}", messages=said, tools=TOOLS, **AT)
    assert ended.choices[0].message.content


def stream_tools():
    events = list(
        litellm.completion(model=f"openai/{API}", messages=ASK, tools=TOOLS, stream=True, **AT)
    )
    found = litellm.stream_chunk_builder(events, messages=ASK)
    assert json.loads(found.choices[0].message.tool_calls[0].function.arguments) == CALLED


def embeddings():
    found = litellm.embedding(model=f"openai/{VECTORS}", input=["a sea", "a poem"], **AT)
    assert [len(row["embedding"]) for row in found.data] == [8, 8]


def anthropic():
    found = litellm.completion(
        model=f"anthropic/{OWN}", messages=ASK, max_tokens=12,
        api_base=URL.removesuffix("/v1"), api_key=KEY,
    )  # fmt: skip
    assert found.choices[0].message.content


told(chat=chat, stream=stream, tools=tools, stream_tools=stream_tools, embeddings=embeddings,
     anthropic=anthropic)  # fmt: skip
