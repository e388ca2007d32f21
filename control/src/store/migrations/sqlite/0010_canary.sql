-- What gets a share of new calls of its own, one at a time, and how streams fare on either side.
CREATE TABLE canary (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    percent INTEGER NOT NULL CHECK (percent BETWEEN 0 AND 100),
    since_us INTEGER NOT NULL
) STRICT;

-- Counted since the last canary was named: then all are forgotten, so that both sides began together.
CREATE TABLE canary_counts (
    version TEXT NOT NULL,
    side TEXT NOT NULL,
    placed INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    agent_failed INTEGER NOT NULL,
    relay_failed INTEGER NOT NULL,
    PRIMARY KEY (version, side)
) STRICT;
