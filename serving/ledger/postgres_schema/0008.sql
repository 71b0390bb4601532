-- Finance (0112). Entries that people and the controller tell, as JSON; what grants paid
-- of each attempt; sums by hour, day and month.
CREATE TABLE finance_entries (
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    month TEXT COLLATE "C" NOT NULL,
    data TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE TABLE burns (
    request_id TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    period TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    micro BIGINT NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (request_id, attempt, grant_id)
);
CREATE INDEX burns_at ON burns (at_ms);
CREATE TABLE grant_use (
    grant_id TEXT COLLATE "C" NOT NULL,
    period TEXT COLLATE "C" NOT NULL,
    units BIGINT NOT NULL,
    micro BIGINT NOT NULL,
    PRIMARY KEY (grant_id, period)
);
CREATE TABLE finance_marks (
    name TEXT COLLATE "C" PRIMARY KEY,
    at_ms BIGINT NOT NULL
);
CREATE TABLE rollups (
    span TEXT COLLATE "C" NOT NULL,
    begin_ms BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    project TEXT COLLATE "C" NOT NULL,
    feature TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    tier TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    money_kind TEXT COLLATE "C" NOT NULL,
    attempts BIGINT NOT NULL,
    estimated BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    delivered_prompt_tokens BIGINT NOT NULL,
    delivered_completion_tokens BIGINT NOT NULL,
    micro BIGINT NOT NULL,
    PRIMARY KEY (span, begin_ms, tenant, project, feature, model, target, tier, currency, money_kind)
);
