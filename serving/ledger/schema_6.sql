-- Version 6: how an account pays, known from an attempt's begin on (0112); what the dead spent is
-- found by their life (0111); how long answers are, over all gateways and their restarts (0111).
ALTER TABLE attempts ADD COLUMN paid_by TEXT NOT NULL DEFAULT 'cash';
CREATE INDEX attempts_life ON attempts (life, begun_ms);
CREATE TABLE answer_lengths (
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    feature TEXT NOT NULL,
    model TEXT NOT NULL,
    counts TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, project, feature, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_lengths_at ON answer_lengths (at_ms);
