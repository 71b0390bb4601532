-- By itself: it reads all of requests, whose writers wait as long (their journals keep the rows), but
-- nobody who reads does.
CREATE INDEX IF NOT EXISTS requests_split ON requests (name, ended_ms) WHERE part >= 0;
