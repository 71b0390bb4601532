-- The directory (0110): who may do what, and the chained history of every change to it.

CREATE TABLE directory_documents (
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE TABLE directory_history (
    number BIGINT PRIMARY KEY,
    data BYTEA NOT NULL,
    hash BYTEA NOT NULL
);
