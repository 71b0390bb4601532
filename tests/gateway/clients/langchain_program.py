"""LangChain: `ChatOpenAI`, an agent with a tool, `OpenAIEmbeddings`."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, told

AT = {"base_url": URL, "api_key": KEY, "max_retries": 0}
seen = []


@tool
def weather(city: str, days: int = 1) -> str:
    """The weather of a city."""
    seen.append({"city": city, "days": days})
    return ANSWER


def chat():
    found = ChatOpenAI(model=OWN, max_tokens=12, **AT).invoke(QUESTION)
    assert found.text
    assert found.usage_metadata["output_tokens"] == 12


def stream():
    events = list(ChatOpenAI(model=OWN, max_tokens=12, stream_usage=True, **AT).stream(QUESTION))
    assert len("".join(event.text for event in events).split()) == 12
    assert sum(e.usage_metadata["output_tokens"] for e in events if e.usage_metadata) == 12


def tools():
    seen.clear()
    agent = create_agent(ChatOpenAI(model=API, **AT), [weather])
    found = agent.invoke({"messages": [("user", QUESTION)]})
    assert seen == [CALLED]
    assert found["messages"][-1].text


def stream_tools():
    whole = None
    for event in ChatOpenAI(model=API, **AT).bind_tools([weather]).stream(QUESTION):
        whole = event if whole is None else whole + event
    assert whole.tool_calls[0]["args"] == CALLED


def embeddings():
    # Its own counting of tokens knows OpenAI's models only.
    model = OpenAIEmbeddings(model=VECTORS, check_embedding_ctx_length=False, **AT)
    assert len(model.embed_query("a sea")) == 8
    assert len(model.embed_documents(["a sea", "a poem"])) == 2


def responses():
    found = ChatOpenAI(model=OWN, use_responses_api=True, max_tokens=12, store=False, **AT)
    assert found.invoke(QUESTION).text


told(chat=chat, stream=stream, tools=tools, stream_tools=stream_tools, embeddings=embeddings,
     responses=responses)  # fmt: skip
