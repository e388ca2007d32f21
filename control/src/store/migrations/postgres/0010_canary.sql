-- What gets a share of new calls of its own, one at a time, and how streams fare on either side. It
-- belongs to no tenant: the API lets only the operator's own keys at it.
CREATE TABLE canary (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    percent BIGINT NOT NULL CHECK (percent BETWEEN 0 AND 100),
    since_us BIGINT NOT NULL
);

-- Counted since the last canary was named: then all are forgotten, so that both sides began together.
CREATE TABLE canary_counts (
    version TEXT NOT NULL,
    side TEXT NOT NULL,
    placed BIGINT NOT NULL,
    started BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    agent_failed BIGINT NOT NULL,
    relay_failed BIGINT NOT NULL,
    PRIMARY KEY (version, side)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON canary, canary_counts TO linecard_app;
