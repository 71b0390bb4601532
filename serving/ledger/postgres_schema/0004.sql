-- Canaries (0121): fixed prompts asked of every target, and what has drifted.

CREATE TABLE quality_runs (
    model TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    prompt TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    is_baseline BIGINT NOT NULL,
    facts BYTEA NOT NULL,
    PRIMARY KEY (model, target, prompt, at_ms)
);

CREATE TABLE quality_found (
    model TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    drifts BYTEA NOT NULL,
    PRIMARY KEY (model, target)
);
