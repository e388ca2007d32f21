-- A call may be `transferred`: its agent's part is over, the phone call lives on. The sweeper looks
-- at such calls, too. SQLite cannot change a CHECK, so the table is made anew; nothing refers to it.
CREATE TABLE calls_anew (
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
    state TEXT NOT NULL CHECK (state IN
        ('queued', 'starting', 'active', 'detached', 'transferred', 'ended')),
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
INSERT INTO calls_anew SELECT id, tenant, account_sid, call_sid, direction, from_number, to_number,
    agent, agent_version, generation, node, state, end_reason, end_detail, transfer_to,
    detach_reason, carrier_status, carrier_seq, resumes, created_us, answered_us, detached_us,
    ended_us FROM calls;
DROP TABLE calls;
ALTER TABLE calls_anew RENAME TO calls;
CREATE INDEX calls_newest ON calls (tenant, created_us DESC, id DESC);
CREATE INDEX calls_detached ON calls (detached_us) WHERE state IN ('detached', 'transferred');
