-- Cases for review (0120): facts that may be listed, and texts sealed by the gateway's key.

CREATE TABLE review_cases (
    id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    end_user TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    facts BYTEA NOT NULL,
    sealed BYTEA NOT NULL
);
CREATE INDEX review_cases_at ON review_cases (at_ms, id);
CREATE INDEX review_cases_user ON review_cases (tenant, end_user);
