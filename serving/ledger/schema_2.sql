-- Version 2: what finance asks for beside tokens and money. Rows that do not tell keep the defaults.
-- `end_user` is an HMAC, never a name.
ALTER TABLE attempts ADD COLUMN feature TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN end_user TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN money_kind TEXT NOT NULL DEFAULT 'cash';
ALTER TABLE attempts ADD COLUMN cached_micro_per_mtok INTEGER;
ALTER TABLE attempts ADD COLUMN price_source TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN price_as_of TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN feature TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN end_user TEXT NOT NULL DEFAULT '';
