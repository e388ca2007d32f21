-- The first layout, the same tables as on PostgreSQL. Times are microseconds since 1970 (UTC).
-- SQLite has no roles: one process owns the file, and every statement names its tenant.

CREATE TABLE tenants (
    id TEXT PRIMARY KEY NOT NULL,
    created_us INTEGER NOT NULL
) STRICT;
INSERT INTO tenants (id, created_us) VALUES ('default', 0);

CREATE TABLE calls (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    account_sid TEXT,
    call_sid TEXT,
    direction TEXT NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    from_number TEXT NOT NULL,
    to_number TEXT NOT NULL,
    agent TEXT NOT NULL,
    agent_version INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    node TEXT,
    state TEXT NOT NULL CHECK (state IN ('queued', 'starting', 'active', 'detached', 'ended')),
    end_reason TEXT,
    end_detail TEXT,
    transfer_to TEXT,
    detach_reason TEXT,
    carrier_status TEXT,
    carrier_seq INTEGER,
    resumes TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    answered_us INTEGER,
    detached_us INTEGER,
    ended_us INTEGER,
    UNIQUE (account_sid, call_sid)
) STRICT;
CREATE INDEX calls_newest ON calls (tenant, created_us DESC, id DESC);
CREATE INDEX calls_detached ON calls (detached_us) WHERE state = 'detached';

CREATE TABLE events (
    tenant TEXT NOT NULL,
    seq INTEGER NOT NULL,
    call TEXT,
    generation INTEGER,
    node TEXT,
    epoch INTEGER,
    n INTEGER,
    type TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (tenant, seq)
) STRICT;
CREATE INDEX events_of_call ON events (tenant, call, seq);

-- What control itself decided, written in the transaction that decided it; the sequencer moves it
-- into events. The order of ids is the order of decisions.
CREATE TABLE pending (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    call TEXT NOT NULL,
    generation INTEGER NOT NULL,
    type TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE heads (
    tenant TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL
) STRICT;

CREATE TABLE marks (
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (node, epoch)
) STRICT;

CREATE TABLE lease (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    lease_epoch INTEGER NOT NULL,
    until_us INTEGER NOT NULL
) STRICT;
INSERT INTO lease (id, holder, lease_epoch, until_us) VALUES (1, '', 0, 0);

CREATE TABLE secrets (
    name TEXT PRIMARY KEY NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
