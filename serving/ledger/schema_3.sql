-- Version 3: egress intents as a hash chain, one for each life of a journal (0114).
CREATE TABLE audit_chain (
    writer TEXT NOT NULL,
    number INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    data BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (writer, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX audit_chain_of ON audit_chain (request_id, attempt);
CREATE INDEX intents_at ON intents (at_ms);
