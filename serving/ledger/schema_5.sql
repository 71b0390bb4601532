-- Version 5: finance (0112). Entries that people and the controller tell, as JSON; what grants paid
-- of each attempt; sums by hour, day and month.
CREATE TABLE finance_entries (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    month TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE burns (
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    grant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    period TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    currency TEXT NOT NULL,
    micro INTEGER NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (request_id, attempt, grant_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX burns_at ON burns (at_ms);
CREATE TABLE grant_use (
    grant_id TEXT NOT NULL,
    period TEXT NOT NULL,
    units INTEGER NOT NULL,
    micro INTEGER NOT NULL,
    PRIMARY KEY (grant_id, period)
) STRICT, WITHOUT ROWID;
CREATE TABLE finance_marks (
    name TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rollups (
    span TEXT NOT NULL,
    begin_ms INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    feature TEXT NOT NULL,
    model TEXT NOT NULL,
    target TEXT NOT NULL,
    tier TEXT NOT NULL,
    currency TEXT NOT NULL,
    money_kind TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    delivered_prompt_tokens INTEGER NOT NULL,
    delivered_completion_tokens INTEGER NOT NULL,
    micro INTEGER NOT NULL,
    PRIMARY KEY (span, begin_ms, tenant, project, feature, model, target, tier, currency, money_kind)
) STRICT, WITHOUT ROWID;
