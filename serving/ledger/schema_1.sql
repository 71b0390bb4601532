-- Version 1; safe to run twice. Times are UTC milliseconds, money integer micro-units of its currency.
-- An attempt's begin and end may arrive in either order, so each part is NULL until it came.
CREATE TABLE IF NOT EXISTS attempts (
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    life TEXT NOT NULL DEFAULT '',
    begun_ms INTEGER,
    received_ms INTEGER,
    tenant TEXT,
    project TEXT,
    key_id TEXT,
    surface TEXT,
    model TEXT,
    latency_class TEXT,
    target TEXT,
    is_egress INTEGER,
    reason TEXT,
    expected_prompt_tokens INTEGER,
    expected_completion_tokens INTEGER,
    price_currency TEXT,
    input_micro_per_mtok INTEGER,
    output_micro_per_mtok INTEGER,
    ended_ms INTEGER,
    outcome TEXT,
    error TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_tokens INTEGER,
    reasoning_tokens INTEGER,
    is_estimated INTEGER,
    currency TEXT,
    micro INTEGER,
    first_token_ms INTEGER,
    PRIMARY KEY (request_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempts_open ON attempts (life) WHERE ended_ms IS NULL;
CREATE INDEX IF NOT EXISTS attempts_ended ON attempts (ended_ms);

CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT PRIMARY KEY,
    received_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    key_id TEXT NOT NULL,
    surface TEXT NOT NULL,
    model TEXT NOT NULL,
    latency_class TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    target TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    queue_ms INTEGER NOT NULL,
    first_token_ms INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    is_estimated INTEGER NOT NULL,
    idempotency TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_ended ON requests (ended_ms);
CREATE INDEX IF NOT EXISTS requests_idempotency ON requests (ended_ms) WHERE idempotency <> '';

CREATE TABLE IF NOT EXISTS intents (
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    sensitivity INTEGER NOT NULL,
    rule TEXT NOT NULL,
    jurisdiction TEXT NOT NULL,
    provider TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    PRIMARY KEY (request_id, attempt)
) STRICT, WITHOUT ROWID;

-- Requests with an attempt and, so far, no request row: what recovery must look at.
CREATE TABLE IF NOT EXISTS pending (
    request_id TEXT PRIMARY KEY,
    life TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pending_life ON pending (life);

CREATE TABLE IF NOT EXISTS positions (
    life TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    offset_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
