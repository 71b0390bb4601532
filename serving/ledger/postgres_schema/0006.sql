-- Egress intents as a hash chain, one for each life of a journal (0114).
CREATE TABLE audit_chain (
    writer TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    data BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (writer, number)
);
CREATE UNIQUE INDEX audit_chain_of ON audit_chain (request_id, attempt);
CREATE INDEX intents_at ON intents (at_ms);
