-- Budgets (0111). One row a budget, period and holder: granted in all, and spent of that.

CREATE TABLE budget_leases (
    budget TEXT COLLATE "C" NOT NULL,
    start_ms BIGINT NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    end_ms BIGINT NOT NULL,
    granted_micro BIGINT NOT NULL,
    spent_micro BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    is_closed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, start_ms, holder)
);
CREATE INDEX budget_leases_open ON budget_leases (expires_ms) WHERE is_closed = 0;
CREATE INDEX budget_leases_ended ON budget_leases (end_ms);

CREATE TABLE budget_alerts (
    budget TEXT COLLATE "C" NOT NULL,
    start_ms BIGINT NOT NULL,
    threshold INTEGER NOT NULL,
    at_ms BIGINT NOT NULL,
    spent_micro BIGINT NOT NULL,
    limit_micro BIGINT NOT NULL,
    PRIMARY KEY (budget, start_ms, threshold)
);
