-- Outbound calls wait in `dials` until they may be placed; a row is there until its call has ended.
-- `paces` holds when each account, number and tenant may be dialled for again, and how often an
-- account has failed in a row.
--
-- A third role takes dials for all tenants and can do nothing else. See 0001 for how roles are made.
DO $$
DECLARE
    split boolean := current_setting('server_version_num')::int >= 160000;
    needed text := CASE WHEN split THEN 'SET' ELSE 'MEMBER' END;
    how text := CASE WHEN split THEN ' WITH SET TRUE' ELSE '' END;
    role_name text := 'linecard_dialler';
    attempt int;
BEGIN
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
END $$;

ALTER TABLE calls ADD COLUMN resume_token TEXT;
ALTER TABLE calls ADD COLUMN answered_by TEXT;

CREATE TABLE dials (
    call TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    account TEXT NOT NULL,
    from_number TEXT NOT NULL,
    to_number TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'asking', 'unsure', 'placed')),
    attempt BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    due_us BIGINT NOT NULL,
    asked_us BIGINT,
    until_us BIGINT NOT NULL,
    plan TEXT NOT NULL,
    past TEXT NOT NULL
);
CREATE INDEX dials_due ON dials (state, due_us) WHERE state <> 'placed';
CREATE INDEX dials_until ON dials (until_us) WHERE state = 'waiting';

CREATE TABLE paces (
    name TEXT PRIMARY KEY,
    free_us BIGINT NOT NULL,
    failures BIGINT NOT NULL
);

CREATE TABLE do_not_call (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    number TEXT NOT NULL,
    added_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, number)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON dials TO linecard_app;
GRANT SELECT, DELETE ON dials TO linecard_sequencer;
GRANT SELECT, UPDATE ON dials TO linecard_dialler;
GRANT SELECT, INSERT, UPDATE ON paces TO linecard_dialler;
GRANT SELECT ON tenants TO linecard_dialler;
GRANT SELECT, INSERT, DELETE ON do_not_call TO linecard_app;

ALTER TABLE dials ENABLE ROW LEVEL SECURITY;
ALTER TABLE dials FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON dials TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON dials TO linecard_sequencer, linecard_dialler
    USING (true) WITH CHECK (true);
CREATE POLICY every_for_dials ON tenants FOR SELECT TO linecard_dialler USING (true);

ALTER TABLE do_not_call ENABLE ROW LEVEL SECURITY;
ALTER TABLE do_not_call FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON do_not_call TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant = nullif(current_setting('app.tenant', true), ''));
