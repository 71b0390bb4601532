-- Files and batches (0125), and which batch a request was a line of.
CREATE TABLE batch_files (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    end_user TEXT COLLATE "C" NOT NULL,
    purpose TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    size BIGINT NOT NULL,
    is_whole BIGINT NOT NULL,
    facts BYTEA NOT NULL
);
CREATE INDEX batch_files_of ON batch_files (tenant, id);
CREATE INDEX batch_files_until ON batch_files (expires_ms);
CREATE TABLE batch_pieces (
    file_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (file_id, number)
);
CREATE TABLE batches (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    end_user TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    cancel_ms BIGINT NOT NULL DEFAULT 0,
    holder TEXT COLLATE "C" NOT NULL DEFAULT '',
    lease_ms BIGINT NOT NULL DEFAULT 0,
    facts BYTEA NOT NULL
);
CREATE INDEX batches_of ON batches (tenant, id);
CREATE INDEX batches_open ON batches (created_ms) WHERE is_open = 1;
CREATE TABLE batch_lines (
    batch_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    custom_id TEXT COLLATE "C" NOT NULL,
    state BIGINT NOT NULL,
    run BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (batch_id, number)
);
CREATE INDEX batch_lines_state ON batch_lines (batch_id, state, number);
ALTER TABLE attempts ADD COLUMN batch TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN batch TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX attempts_batch ON attempts (batch) WHERE batch <> '';
-- What a cache saved.
ALTER TABLE requests ADD COLUMN saved_currency TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN saved_micro BIGINT NOT NULL DEFAULT 0;
