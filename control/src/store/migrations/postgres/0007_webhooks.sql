-- Where customers want to be told of events. The events themselves are the outbox: a webhook has a
-- place in its tenant's stream, and what is behind that is still to be told.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    url TEXT NOT NULL,
    types TEXT NOT NULL,
    secret BYTEA NOT NULL,
    created_us BIGINT NOT NULL,
    after_seq BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    due_us BIGINT NOT NULL DEFAULT 0,
    problem TEXT,
    disabled_us BIGINT
);
CREATE INDEX webhooks_of_tenant ON webhooks (tenant, id);

-- What was given up: the places, not the events, which are kept as long as all others.
CREATE TABLE dead_letters (
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    problem TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (webhook, first_seq)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, dead_letters TO linecard_app;
GRANT SELECT ON webhooks TO linecard_sequencer;

ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhooks FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON webhooks TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON webhooks FOR SELECT TO linecard_sequencer USING (true);

ALTER TABLE dead_letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE dead_letters FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON dead_letters TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
