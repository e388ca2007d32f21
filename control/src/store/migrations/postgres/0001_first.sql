-- The first layout. Times are microseconds since 1970 (UTC), as on SQLite.
--
-- Tables belong to the role that migrates. The control plane works as two weaker roles:
-- linecard_app sees one tenant at a time (app.tenant), linecard_sequencer writes events of all
-- tenants and cannot read them. Row-level security is forced, so that it binds the owner too: a
-- later migration that must rewrite rows lifts it for its own transaction.
--
-- Roles belong to the cluster, not to the database: another database's migration may create the
-- same one at the same moment, which is why creation is tried again.
DO $$
DECLARE
    -- PostgreSQL 16 lets a role be created without the right to become it.
    split boolean := current_setting('server_version_num')::int >= 160000;
    needed text := CASE WHEN split THEN 'SET' ELSE 'MEMBER' END;
    how text := CASE WHEN split THEN ' WITH SET TRUE' ELSE '' END;
    role_name text;
    attempt int;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['linecard_app', 'linecard_sequencer'] LOOP
        FOR attempt IN 1..20 LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN NOBYPASSRLS', role_name);
                END IF;
                IF NOT pg_has_role(current_user, role_name, needed) THEN
                    EXECUTE format('GRANT %I TO CURRENT_USER', role_name) || how;
                END IF;
                EXIT;
            EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN
                IF attempt = 20 THEN RAISE; END IF;
                PERFORM pg_sleep(0.05);
            END;
        END LOOP;
    END LOOP;
END $$;

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    created_us BIGINT NOT NULL
);
INSERT INTO tenants (id, created_us) VALUES ('default', 0);

CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    account_sid TEXT,
    call_sid TEXT,
    direction TEXT NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    from_number TEXT NOT NULL,
    to_number TEXT NOT NULL,
    agent TEXT NOT NULL,
    agent_version BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    node TEXT,
    state TEXT NOT NULL CHECK (state IN ('queued', 'starting', 'active', 'detached', 'ended')),
    end_reason TEXT,
    end_detail TEXT,
    transfer_to TEXT,
    detach_reason TEXT,
    carrier_status TEXT,
    carrier_seq BIGINT,
    resumes TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    answered_us BIGINT,
    detached_us BIGINT,
    ended_us BIGINT,
    UNIQUE (account_sid, call_sid)
);
CREATE INDEX calls_newest ON calls (tenant, created_us DESC, id DESC);
CREATE INDEX calls_detached ON calls (detached_us) WHERE state = 'detached';

CREATE TABLE events (
    tenant TEXT NOT NULL,
    seq BIGINT NOT NULL,
    call TEXT,
    generation BIGINT,
    node TEXT,
    epoch BIGINT,
    n BIGINT,
    type TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (tenant, seq)
);
CREATE INDEX events_of_call ON events (tenant, call, seq);

-- What control itself decided, written in the transaction that decided it; the sequencer moves it
-- into events. The order of ids is the order of decisions within a call, nothing more.
CREATE TABLE pending (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT NOT NULL,
    call TEXT NOT NULL,
    generation BIGINT NOT NULL,
    type TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE heads (
    tenant TEXT PRIMARY KEY,
    seq BIGINT NOT NULL
);

CREATE TABLE marks (
    node TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (node, epoch)
);

CREATE TABLE lease (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    lease_epoch BIGINT NOT NULL,
    until_us BIGINT NOT NULL
);
INSERT INTO lease (id, holder, lease_epoch, until_us) VALUES (1, '', 0, 0);

CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL
);

GRANT SELECT, INSERT ON tenants TO linecard_app;
GRANT SELECT, INSERT, UPDATE ON calls TO linecard_app;
GRANT SELECT ON events, heads, marks, lease TO linecard_app;
GRANT INSERT ON pending TO linecard_app;
GRANT SELECT, INSERT ON secrets TO linecard_app;

GRANT SELECT ON tenants TO linecard_sequencer;
GRANT SELECT, UPDATE ON calls TO linecard_sequencer;
GRANT INSERT ON events TO linecard_sequencer;
GRANT SELECT, DELETE ON pending TO linecard_sequencer;
GRANT SELECT, INSERT, UPDATE ON heads, marks TO linecard_sequencer;
GRANT SELECT, UPDATE ON lease TO linecard_sequencer;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON tenants TO linecard_app
    USING (id = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (id = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON tenants FOR SELECT TO linecard_sequencer USING (true);

ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE calls FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON calls TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON calls TO linecard_sequencer USING (true) WITH CHECK (true);

ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON events FOR SELECT TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON events FOR INSERT TO linecard_sequencer WITH CHECK (true);

ALTER TABLE pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE pending FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON pending FOR INSERT TO linecard_app
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON pending TO linecard_sequencer USING (true) WITH CHECK (true);

ALTER TABLE heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE heads FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON heads FOR SELECT TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON heads TO linecard_sequencer USING (true) WITH CHECK (true);
