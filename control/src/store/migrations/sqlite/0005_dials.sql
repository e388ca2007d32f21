-- Outbound calls wait in `dials` until they may be placed; a row is there until its call has ended.
-- See the same file for PostgreSQL. SQLite has no roles: one process owns the file.
ALTER TABLE calls ADD COLUMN resume_token TEXT;
ALTER TABLE calls ADD COLUMN answered_by TEXT;

CREATE TABLE dials (
    call TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    account TEXT NOT NULL,
    from_number TEXT NOT NULL,
    to_number TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'asking', 'unsure', 'placed')),
    attempt INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    asked_us INTEGER,
    until_us INTEGER NOT NULL,
    plan TEXT NOT NULL,
    past TEXT NOT NULL
) STRICT;
CREATE INDEX dials_due ON dials (state, due_us) WHERE state <> 'placed';
CREATE INDEX dials_until ON dials (until_us) WHERE state = 'waiting';

CREATE TABLE paces (
    name TEXT PRIMARY KEY NOT NULL,
    free_us INTEGER NOT NULL,
    failures INTEGER NOT NULL
) STRICT;

CREATE TABLE do_not_call (
    tenant TEXT NOT NULL REFERENCES tenants (id),
    number TEXT NOT NULL,
    added_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT;
