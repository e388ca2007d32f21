-- Tenants have settings and limits, keys of their own, and an audit log. Everything is added, so
-- that the version before this one goes on working beside it.

-- A NULL limit is none. `origins` and `countries` are JSON arrays: exact origins of web pages, and
-- calling codes such as "+49" with which a called number must begin.
ALTER TABLE tenants
    ADD COLUMN origins TEXT NOT NULL DEFAULT '[]',
    ADD COLUMN countries TEXT,
    ADD COLUMN calls_minute_max BIGINT,
    ADD COLUMN calls_max BIGINT,
    ADD COLUMN spend_day_cents_max BIGINT,
    ADD COLUMN requests_second_max BIGINT,
    ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
GRANT UPDATE (origins, countries, calls_minute_max, calls_max, spend_day_cents_max,
    requests_second_max, version) ON tenants TO linecard_app;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    hash BYTEA NOT NULL,
    scopes TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    used_us BIGINT,
    revoked_us BIGINT
);
CREATE INDEX api_keys_of_tenant ON api_keys (tenant, created_us DESC, id DESC);

-- Provider keys and carrier accounts, each sealed with its tenant's data key, which is sealed with
-- the master key.
CREATE TABLE data_keys (
    tenant TEXT PRIMARY KEY REFERENCES tenants (id),
    sealed BYTEA NOT NULL
);
CREATE TABLE credentials (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    hint TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    changed_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind)
);

-- Who changed what. Nobody may change or take away what stands there.
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    at_us BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_of_tenant ON audit (tenant, id);

-- What control signs with, in two rings: tickets (relays hold the public half) and passes. The
-- keys of a ring are counted, so that of several controls one makes the next one.
CREATE TABLE signing_keys (
    ring TEXT NOT NULL CHECK (ring IN ('ticket', 'pass')),
    number BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    signs_us BIGINT NOT NULL,
    PRIMARY KEY (ring, number)
);

GRANT SELECT, INSERT ON api_keys, data_keys, audit TO linecard_app;
GRANT UPDATE (used_us, revoked_us) ON api_keys TO linecard_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON credentials TO linecard_app;
GRANT SELECT, INSERT, DELETE ON signing_keys TO linecard_app;

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON api_keys TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
-- A request shows a key before anybody knows whose it is: the transaction names the keys that it
-- was shown, and sees those.
CREATE POLICY shown ON api_keys FOR SELECT TO linecard_app
    USING (id = ANY (string_to_array(current_setting('app.keys', true), ',')));

ALTER TABLE data_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE data_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON data_keys TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));

ALTER TABLE credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON credentials TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON audit TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
