"""AutoGen 0.7: `OpenAIChatCompletionClient` with `model_info`, an assistant with a tool."""

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, told

ABOUT = {
    "vision": False, "function_calling": True, "json_output": True, "structured_output": True,
    "family": "unknown",
}  # fmt: skip
ASK = [UserMessage(content=QUESTION, source="user")]
seen = []


def client(model, **more):
    return OpenAIChatCompletionClient(
        model=model, base_url=URL, api_key=KEY, max_retries=0, model_info=ABOUT, **more
    )


async def weather(city: str, days: int = 1) -> str:
    """The weather of a city."""
    seen.append({"city": city, "days": days})
    return ANSWER


async def chat():
    found = await client(OWN, max_tokens=12).create(ASK)
    assert len(found.content.split()) == found.usage.completion_tokens == 12


async def stream():
    # Without it this client counts every streamed answer as no tokens.
    model = client(OWN, max_tokens=12, stream_options={"include_usage": True})
    events = [event async for event in model.create_stream(ASK)]
    assert len("".join(events[:-1]).split()) == events[-1].usage.completion_tokens == 12


async def agent(*, is_stream):
    seen.clear()
    made = AssistantAgent(
        "helper", client(API), tools=[weather], reflect_on_tool_use=True,
        model_client_stream=is_stream,
    )  # fmt: skip
    found = await made.run(task=QUESTION)
    assert seen == [CALLED]
    assert found.messages[-1].content


told(chat=chat, stream=stream, tools=lambda: agent(is_stream=False),
     stream_tools=lambda: agent(is_stream=True))  # fmt: skip
