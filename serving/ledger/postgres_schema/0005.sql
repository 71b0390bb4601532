-- Windows of plans (0113): what was used of "so many in five hours, a week, a month".

CREATE TABLE plan_windows (
    counter TEXT COLLATE "C" PRIMARY KEY,
    began_ms BIGINT NOT NULL,
    length_ms BIGINT NOT NULL,
    used DOUBLE PRECISION NOT NULL
);
