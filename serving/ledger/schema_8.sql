-- Version 8: sides of a split and how answers ended (0130), sums for scorecards, evaluations and votes.
ALTER TABLE attempts ADD COLUMN route TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN is_stream INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN route TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN part INTEGER NOT NULL DEFAULT -1;
ALTER TABLE requests ADD COLUMN finish TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN json_found TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN is_stream INTEGER NOT NULL DEFAULT 0;
CREATE INDEX requests_split ON requests (name, ended_ms) WHERE part >= 0;
CREATE TABLE scores (
    span TEXT NOT NULL,
    begin_ms INTEGER NOT NULL,
    target TEXT NOT NULL,
    measure TEXT NOT NULL,
    name TEXT NOT NULL,
    currency TEXT NOT NULL,
    count INTEGER NOT NULL,
    estimated INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    micro INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (span, begin_ms, target, measure, name, currency)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluations (
    id TEXT PRIMARY KEY,
    created_ms INTEGER NOT NULL,
    facts BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluation_votes (
    evaluation TEXT NOT NULL,
    question TEXT NOT NULL,
    voter TEXT NOT NULL,
    choice TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (evaluation, question, voter)
) STRICT, WITHOUT ROWID;
