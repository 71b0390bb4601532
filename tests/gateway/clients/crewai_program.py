"""CrewAI: `LLM("openai/...")`, a crew of one agent with a tool."""

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from telling import ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, told

AT = {"base_url": URL, "api_key": KEY}
seen = []


@tool("weather")
def weather(city: str, days: int = 1) -> str:
    """The weather of a city."""
    seen.append({"city": city, "days": days})
    return ANSWER


def chat():
    found = LLM(model=f"openai/{OWN}", max_tokens=12, **AT).call(QUESTION)
    assert len(found.split()) == 12


def stream():
    found = LLM(model=f"openai/{OWN}", max_tokens=12, stream=True, **AT).call(QUESTION)
    assert len(found.split()) == 12


def crew(*, is_stream):
    seen.clear()
    llm = LLM(model=f"openai/{API}", stream=is_stream, **AT)
    agent = Agent(role="forecaster", goal="tell the weather", backstory="knows a tool", llm=llm,
                  tools=[weather], max_iter=4)  # fmt: skip
    task = Task(description=QUESTION, expected_output="one sentence", agent=agent)
    found = Crew(agents=[agent], tasks=[task]).kickoff()
    assert seen == [CALLED]
    assert found.raw


told(chat=chat, stream=stream, tools=lambda: crew(is_stream=False),
     stream_tools=lambda: crew(is_stream=True))  # fmt: skip
