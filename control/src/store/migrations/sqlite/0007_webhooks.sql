-- Where customers want to be told of events. The events themselves are the outbox: a webhook has a
-- place in its tenant's stream, and what is behind that is still to be told.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    url TEXT NOT NULL,
    types TEXT NOT NULL,
    secret BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    after_seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_us INTEGER NOT NULL DEFAULT 0,
    problem TEXT,
    disabled_us INTEGER
) STRICT;
CREATE INDEX webhooks_of_tenant ON webhooks (tenant, id);

-- What was given up: the places, not the events, which are kept as long as all others.
CREATE TABLE dead_letters (
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    problem TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (webhook, first_seq)
) STRICT;
