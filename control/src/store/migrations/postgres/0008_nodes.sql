-- What operators say of nodes; a node of which nothing is said is not there. It belongs to no
-- tenant: the API lets only the operator's own keys at it.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    weight BIGINT NOT NULL CHECK (weight BETWEEN 0 AND 100),
    changed_us BIGINT NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON nodes TO linecard_app;

-- The calls that a tenant has at once are counted every two seconds; they are few of many.
CREATE INDEX calls_alive ON calls (tenant) WHERE state <> 'ended';
