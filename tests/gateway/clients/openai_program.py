"""The official `openai` package."""

import json

from openai import OpenAI
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, WEATHER, told

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
ASK = [{"role": "user", "content": QUESTION}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]


def chat():
    plain = client.chat.completions.create(model=OWN, messages=ASK, max_completion_tokens=12)
    assert plain.choices[0].message.content
    assert plain.usage.completion_tokens == 12
    answered = client.responses.create(model=OWN, input=QUESTION, max_output_tokens=12, store=False)
    assert answered.output_text == plain.choices[0].message.content


def stream():
    events = list(
        client.chat.completions.create(
            model=OWN, messages=ASK, max_tokens=12, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert len(text.split()) == events[-1].usage.completion_tokens == 12


def tools():
    asked = client.chat.completions.create(model=API, messages=ASK, tools=TOOLS)
    call = asked.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", CALLED)
    result = {"role": "tool", "tool_call_id": call.id, "content": ANSWER}
    ended = client.chat.completions.create(
        model=API, messages=[*ASK, asked.choices[0].message, result], tools=TOOLS
    )
    assert ended.choices[0].message.content


def stream_tools():
    with client.chat.completions.stream(model=API, messages=ASK, tools=TOOLS) as events:
        for _ in events:
            pass
        call = events.get_final_completion().choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == CALLED


def embeddings():
    found = client.embeddings.create(model=VECTORS, input=["a sea", "a poem"])
    assert len(found.data) == 2
    assert len(found.data[0].embedding) == 8


def models():
    assert {OWN, API, VECTORS} <= {model.id for model in client.models.list()}


told(chat=chat, stream=stream, tools=tools, stream_tools=stream_tools, embeddings=embeddings,
     models=models)  # fmt: skip
