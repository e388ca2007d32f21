-- Tenants have settings and limits, keys of their own, and an audit log: the same tables as on
-- PostgreSQL.

-- A NULL limit is none. `origins` and `countries` are JSON arrays: exact origins of web pages, and
-- calling codes such as "+49" with which a called number must begin.
ALTER TABLE tenants ADD COLUMN origins TEXT NOT NULL DEFAULT '[]';
ALTER TABLE tenants ADD COLUMN countries TEXT;
ALTER TABLE tenants ADD COLUMN calls_minute_max INTEGER;
ALTER TABLE tenants ADD COLUMN calls_max INTEGER;
ALTER TABLE tenants ADD COLUMN spend_day_cents_max INTEGER;
ALTER TABLE tenants ADD COLUMN requests_second_max INTEGER;
ALTER TABLE tenants ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    hash BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    used_us INTEGER,
    revoked_us INTEGER
) STRICT;
CREATE INDEX api_keys_of_tenant ON api_keys (tenant, created_us DESC, id DESC);

-- Provider keys and carrier accounts, each sealed with its tenant's data key, which is sealed with
-- the master key.
CREATE TABLE data_keys (
    tenant TEXT PRIMARY KEY NOT NULL REFERENCES tenants (id),
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE credentials (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    hint TEXT NOT NULL,
    sealed BLOB NOT NULL,
    changed_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind)
) STRICT;

-- Who changed what. Nobody may change or take away what stands there.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    at_us INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_tenant ON audit (tenant, id);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- What control signs with, in two rings: tickets (relays hold the public half) and passes. The
-- keys of a ring are counted, so that of several controls one makes the next one.
CREATE TABLE signing_keys (
    ring TEXT NOT NULL CHECK (ring IN ('ticket', 'pass')),
    number INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    signs_us INTEGER NOT NULL,
    PRIMARY KEY (ring, number)
) STRICT;
