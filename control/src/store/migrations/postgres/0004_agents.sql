-- Agents and their versions, the numbers that lead to them, runs of calls, and the keys by which a
-- request that comes twice is done once.

-- Counts the changes of agents and numbers. Whoever changes one takes the row first and keeps it to
-- the commit, so that revisions are committed in their order: who has read up to one misses none.
CREATE TABLE revisions (
    topic TEXT PRIMARY KEY,
    n BIGINT NOT NULL
);
INSERT INTO revisions (topic, n) VALUES ('directory', 0);

CREATE TABLE agents (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    deleted_us BIGINT,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX agents_changed ON agents (revision);

-- The spec without its secrets; those are sealed beside it.
CREATE TABLE agent_versions (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    spec TEXT NOT NULL,
    sealed BYTEA,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES agents (tenant, name)
);

-- A number that was given back stays as a row until its tenant takes it again, so that every
-- instance hears of it.
CREATE TABLE numbers (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    number TEXT NOT NULL,
    agent TEXT,
    legacy_url TEXT,
    legacy_percent BIGINT NOT NULL CHECK (legacy_percent BETWEEN 0 AND 100),
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    deleted_us BIGINT,
    PRIMARY KEY (tenant, number)
);
CREATE UNIQUE INDEX numbers_once ON numbers (number) WHERE deleted_us IS NULL;
CREATE INDEX numbers_changed ON numbers (revision);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    calls BIGINT NOT NULL,
    created_us BIGINT NOT NULL
);
CREATE INDEX runs_newest ON runs (tenant, created_us DESC, id DESC);

ALTER TABLE calls ADD COLUMN run TEXT;
CREATE INDEX calls_of_run ON calls (tenant, run, created_us DESC, id DESC) WHERE run IS NOT NULL;

-- `holder` is who does what was asked, `held` says that it is committed; `answer` is sealed.
CREATE TABLE idempotency (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    key TEXT NOT NULL,
    digest BYTEA NOT NULL,
    holder TEXT NOT NULL,
    held BIGINT NOT NULL,
    answer BYTEA,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_oldest ON idempotency (tenant, at_us);

GRANT SELECT, UPDATE ON revisions TO linecard_app;
GRANT SELECT, INSERT, UPDATE ON agents TO linecard_app;
GRANT SELECT, INSERT ON agent_versions TO linecard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON numbers TO linecard_app;
GRANT SELECT, INSERT ON runs TO linecard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO linecard_app;

-- Who answers must be known before it is known whose call it is.
GRANT SELECT ON agents, agent_versions, numbers TO linecard_sequencer;

ALTER TABLE agents ENABLE ROW LEVEL SECURITY;
ALTER TABLE agents FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON agents TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON agents FOR SELECT TO linecard_sequencer USING (true);

ALTER TABLE agent_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON agent_versions TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON agent_versions FOR SELECT TO linecard_sequencer USING (true);

ALTER TABLE numbers ENABLE ROW LEVEL SECURITY;
ALTER TABLE numbers FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON numbers TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON numbers FOR SELECT TO linecard_sequencer USING (true);

ALTER TABLE runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE runs FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON runs TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));

ALTER TABLE idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON idempotency TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
