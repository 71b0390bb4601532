-- Sides of a split and how answers ended (0130), sums for scorecards, evaluations and votes.
ALTER TABLE attempts ADD COLUMN route TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN is_stream BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE requests ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN route TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN part BIGINT NOT NULL DEFAULT -1;
ALTER TABLE requests ADD COLUMN finish TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN json_found TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN is_stream BOOLEAN NOT NULL DEFAULT FALSE;
CREATE TABLE scores (
    span TEXT COLLATE "C" NOT NULL,
    begin_ms BIGINT NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    measure TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    estimated BIGINT NOT NULL DEFAULT 0,
    prompt_tokens BIGINT NOT NULL DEFAULT 0,
    completion_tokens BIGINT NOT NULL DEFAULT 0,
    cached_tokens BIGINT NOT NULL DEFAULT 0,
    micro BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (span, begin_ms, target, measure, name, currency)
);
CREATE TABLE evaluations (
    id TEXT COLLATE "C" PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    facts BYTEA NOT NULL
);
CREATE TABLE evaluation_votes (
    evaluation TEXT COLLATE "C" NOT NULL,
    question TEXT COLLATE "C" NOT NULL,
    voter TEXT COLLATE "C" NOT NULL,
    choice TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (evaluation, question, voter)
);
