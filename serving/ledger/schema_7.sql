-- Version 7: which batch a request was a line of (0125); empty is none. What a cache saved.
ALTER TABLE attempts ADD COLUMN batch TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN batch TEXT NOT NULL DEFAULT '';
CREATE INDEX attempts_batch ON attempts (batch) WHERE batch <> '';
ALTER TABLE requests ADD COLUMN saved_currency TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN saved_micro INTEGER NOT NULL DEFAULT 0;
