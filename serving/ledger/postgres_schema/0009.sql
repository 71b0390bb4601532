-- How an account pays, known from an attempt's begin on (0112); what the dead spent is found by
-- their life (0111); how long answers are, over all gateways and their restarts (0111).
ALTER TABLE attempts ADD COLUMN paid_by TEXT COLLATE "C" NOT NULL DEFAULT 'cash';
CREATE INDEX attempts_life ON attempts (life, begun_ms);
CREATE TABLE answer_lengths (
    tenant TEXT COLLATE "C" NOT NULL,
    project TEXT COLLATE "C" NOT NULL,
    feature TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    counts TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, project, feature, model)
);
CREATE INDEX answer_lengths_at ON answer_lengths (at_ms);
