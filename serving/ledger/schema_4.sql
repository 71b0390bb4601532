-- Version 4: budgets (0111). One row a budget, period and holder: granted in all, and spent of that.
CREATE TABLE budget_leases (
    budget TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    holder TEXT NOT NULL,
    end_ms INTEGER NOT NULL,
    granted_micro INTEGER NOT NULL,
    spent_micro INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    is_closed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, start_ms, holder)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_leases_open ON budget_leases (expires_ms) WHERE is_closed = 0;
CREATE INDEX budget_leases_ended ON budget_leases (end_ms);

CREATE TABLE budget_alerts (
    budget TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    threshold INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    spent_micro INTEGER NOT NULL,
    limit_micro INTEGER NOT NULL,
    PRIMARY KEY (budget, start_ms, threshold)
) STRICT, WITHOUT ROWID;
