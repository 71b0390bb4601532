"""LlamaIndex: `OpenAILike` (its `OpenAI` class takes OpenAI's own model names only)."""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, told

AT = {"api_base": URL, "api_key": KEY, "max_retries": 0}
SHAPE = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 32768}
ASK = [ChatMessage(role="user", content=QUESTION)]
seen = []


def weather(city: str, days: int = 1) -> str:
    """The weather of a city."""
    seen.append({"city": city, "days": days})
    return ANSWER


def chat():
    found = OpenAILike(model=OWN, max_tokens=12, **AT, **SHAPE).chat(ASK)
    assert len(found.message.content.split()) == 12


def stream():
    events = list(OpenAILike(model=OWN, max_tokens=12, **AT, **SHAPE).stream_chat(ASK))
    assert len("".join(event.delta or "" for event in events).split()) == 12


async def tools():
    seen.clear()
    llm = OpenAILike(model=API, **AT, **SHAPE)
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(weather)], llm=llm, streaming=False)
    found = await agent.run(QUESTION)
    assert seen == [CALLED]
    assert str(found)


async def stream_tools():
    seen.clear()
    llm = OpenAILike(model=API, **AT, **SHAPE)
    found = await FunctionAgent(tools=[FunctionTool.from_defaults(weather)], llm=llm).run(QUESTION)
    assert seen == [CALLED]
    assert str(found)


def embeddings():
    model = OpenAILikeEmbedding(model_name=VECTORS, **AT)
    assert len(model.get_text_embedding("a sea")) == 8
    assert len(model.get_text_embedding_batch(["a sea", "a poem"])) == 2


def completion():
    found = OpenAILike(model=OWN, max_tokens=12, **AT, is_chat_model=False).complete(QUESTION)
    assert len(found.text.split()) == 12


told(chat=chat, stream=stream, tools=tools, stream_tools=stream_tools, embeddings=embeddings,
     completion=completion)  # fmt: skip
