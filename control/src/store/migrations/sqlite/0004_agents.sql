-- Agents and their versions, the numbers that lead to them, runs of calls, and the keys by which a
-- request that comes twice is done once. The same tables as on PostgreSQL.

-- Counts the changes of agents and numbers: who has read up to one misses none.
CREATE TABLE revisions (
    topic TEXT PRIMARY KEY NOT NULL,
    n INTEGER NOT NULL
) STRICT;
INSERT INTO revisions (topic, n) VALUES ('directory', 0);

CREATE TABLE agents (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    deleted_us INTEGER,
    PRIMARY KEY (tenant, name)
) STRICT;
CREATE INDEX agents_changed ON agents (revision);

-- The spec without its secrets; those are sealed beside it.
CREATE TABLE agent_versions (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    spec TEXT NOT NULL,
    sealed BLOB,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES agents (tenant, name)
) STRICT;

-- A number that was given back stays as a row until its tenant takes it again, so that every
-- instance hears of it.
CREATE TABLE numbers (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    number TEXT NOT NULL,
    agent TEXT,
    legacy_url TEXT,
    legacy_percent INTEGER NOT NULL CHECK (legacy_percent BETWEEN 0 AND 100),
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    deleted_us INTEGER,
    PRIMARY KEY (tenant, number)
) STRICT;
CREATE UNIQUE INDEX numbers_once ON numbers (number) WHERE deleted_us IS NULL;
CREATE INDEX numbers_changed ON numbers (revision);

CREATE TABLE runs (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    calls INTEGER NOT NULL,
    created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_newest ON runs (tenant, created_us DESC, id DESC);

ALTER TABLE calls ADD COLUMN run TEXT;
CREATE INDEX calls_of_run ON calls (tenant, run, created_us DESC, id DESC) WHERE run IS NOT NULL;

-- `holder` is who does what was asked, `held` says that it is committed; `answer` is sealed.
CREATE TABLE idempotency (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    holder TEXT NOT NULL,
    held INTEGER NOT NULL,
    answer BLOB,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT;
CREATE INDEX idempotency_oldest ON idempotency (tenant, at_us);
