"""How providers say no before they begin, each in its own dialect. Data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """A whole answer with an error status."""

    name: str
    meaning: str
    status: int
    payload: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def _error(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


REFUSALS: Final = (
    Refusal(
        "rate_limit",
        "429 with Retry-After: come back later",
        429,
        _error("Rate limit reached for requests per min.", "requests", "rate_limit_exceeded"),
        {"Retry-After": "2"},
    ),
    Refusal(
        "out_of_money_openai",
        "429 insufficient_quota: the account is empty, retrying is useless (OpenAI)",
        429,
        _error(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
    ),
    Refusal(
        "out_of_money_zhipu",
        "429 with inner code 1113: arrears (Zhipu)",
        429,
        {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}},
    ),
    Refusal(
        "out_of_money_402",
        "402: balance used up (DeepSeek, OpenRouter)",
        402,
        _error("Insufficient Balance", "unknown_error", "invalid_request_error"),
    ),
    Refusal(
        "out_of_money_dashscope",
        "400 Arrearage: not the caller's fault although it is a 400 (DashScope)",
        400,
        _error(
            "Access denied, please make sure your account is in good standing.",
            "Arrearage",
            "Arrearage",
        ),
    ),
    Refusal(
        "allocation_dashscope",
        "429 insufficient_quota that means tokens per minute, not money (DashScope)",
        429,
        _error("Allocated quota exceeded, please increase it.", "rate", "insufficient_quota"),
    ),
    Refusal(
        "forbidden_content",
        "403 that means the prompt was blocked",
        403,
        _error("Your input was flagged by moderation.", "moderation", "content_policy_violation"),
    ),
    Refusal(
        "forbidden_arrears",
        "403 that means the account is overdue",
        403,
        _error("The account has an overdue balance.", "Forbidden", "AccountOverdueError"),
    ),
    Refusal(
        "server_error",
        "500",
        500,
        _error("The server had an error while processing your request.", "server_error", None),
    ),
    Refusal(
        "unavailable",
        "503 for ever",
        503,
        _error("The engine is currently overloaded.", "server_error", "service_unavailable"),
    ),
    Refusal(
        "overloaded",
        "529 (Anthropic)",
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ),
    Refusal(
        "context_too_long",
        "400 context_length_exceeded",
        400,
        _error(
            "This model's maximum context length is 8192 tokens.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
    ),
    Refusal(
        "content_filter",
        "400 content_filter: the prompt was blocked",
        400,
        _error("The response was filtered.", "invalid_request_error", "content_filter"),
    ),
    Refusal(
        "key_expired",
        "401 for a key that was right yesterday",
        401,
        _error("Your API key has expired.", "invalid_request_error", "invalid_api_key"),
    ),
    Refusal(
        "model_retired",
        "404 model_not_found",
        404,
        _error(
            "The model has been retired.",
            "invalid_request_error",
            "model_not_found",
        ),
    ),
)
