-- What operators say of nodes; a node of which nothing is said is not there.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY NOT NULL,
    weight INTEGER NOT NULL CHECK (weight BETWEEN 0 AND 100),
    changed_us INTEGER NOT NULL
) STRICT;

-- The calls that a tenant has at once are counted every two seconds; they are few of many.
CREATE INDEX calls_alive ON calls (tenant) WHERE state <> 'ended';
