-- What finance asks for beside tokens and money. Rows that do not tell keep the defaults.
ALTER TABLE attempts ADD COLUMN feature TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN money_kind TEXT NOT NULL DEFAULT 'cash';
ALTER TABLE attempts ADD COLUMN cached_micro_per_mtok INTEGER;
ALTER TABLE attempts ADD COLUMN price_source TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN price_as_of TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN feature TEXT NOT NULL DEFAULT '';
