-- The ledger's tables. Times are UTC milliseconds, money integer micro-units of its currency.
-- An attempt's begin and end may arrive in either order, so each part is NULL until it came.
-- Text compares by bytes ("C"), as in SQLite: names sort alike everywhere, and faster.
CREATE TABLE attempts (
    request_id TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    life TEXT COLLATE "C" NOT NULL DEFAULT '',
    begun_ms BIGINT,
    received_ms BIGINT,
    tenant TEXT COLLATE "C",
    project TEXT COLLATE "C",
    key_id TEXT COLLATE "C",
    surface TEXT COLLATE "C",
    model TEXT COLLATE "C",
    latency_class TEXT COLLATE "C",
    target TEXT COLLATE "C",
    is_egress BOOLEAN,
    reason TEXT COLLATE "C",
    expected_prompt_tokens BIGINT,
    expected_completion_tokens BIGINT,
    price_currency TEXT COLLATE "C",
    input_micro_per_mtok BIGINT,
    output_micro_per_mtok BIGINT,
    ended_ms BIGINT,
    outcome TEXT COLLATE "C",
    error TEXT COLLATE "C",
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    cached_tokens BIGINT,
    reasoning_tokens BIGINT,
    is_estimated BOOLEAN,
    currency TEXT COLLATE "C",
    micro BIGINT,
    first_token_ms BIGINT,
    feature TEXT COLLATE "C" NOT NULL DEFAULT '',
    end_user TEXT COLLATE "C" NOT NULL DEFAULT '', -- an HMAC, never a name
    money_kind TEXT COLLATE "C" NOT NULL DEFAULT 'cash',
    cached_micro_per_mtok BIGINT,
    price_source TEXT COLLATE "C" NOT NULL DEFAULT '',
    price_as_of TEXT COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (request_id, attempt)
);
CREATE INDEX attempts_open ON attempts (life) WHERE ended_ms IS NULL;
CREATE INDEX attempts_ended ON attempts (ended_ms);

CREATE TABLE requests (
    request_id TEXT COLLATE "C" PRIMARY KEY,
    received_ms BIGINT NOT NULL,
    ended_ms BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    project TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    surface TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    latency_class TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    status BIGINT NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    attempts BIGINT NOT NULL,
    queue_ms BIGINT NOT NULL,
    first_token_ms BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    is_estimated BOOLEAN NOT NULL,
    idempotency TEXT COLLATE "C" NOT NULL,
    feature TEXT COLLATE "C" NOT NULL DEFAULT '',
    end_user TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX requests_ended ON requests (ended_ms);
CREATE INDEX requests_idempotency ON requests (ended_ms) WHERE idempotency <> '';

CREATE TABLE intents (
    request_id TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    sensitivity BIGINT NOT NULL,
    rule TEXT COLLATE "C" NOT NULL,
    jurisdiction TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    upstream_model TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (request_id, attempt)
);

-- Requests with an attempt and, so far, no request row: what recovery must look at.
CREATE TABLE pending (
    request_id TEXT COLLATE "C" PRIMARY KEY,
    life TEXT COLLATE "C" NOT NULL
);
CREATE INDEX pending_life ON pending (life);

CREATE TABLE positions (
    life TEXT COLLATE "C" PRIMARY KEY,
    sequence BIGINT NOT NULL,
    offset_bytes BIGINT NOT NULL
);
