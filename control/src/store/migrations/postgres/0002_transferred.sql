-- A call may be `transferred`: its agent's part is over, the phone call lives on. The sweeper looks
-- at such calls, too.
ALTER TABLE calls DROP CONSTRAINT calls_state_check;
ALTER TABLE calls ADD CONSTRAINT calls_state_check CHECK (state IN
    ('queued', 'starting', 'active', 'detached', 'transferred', 'ended'));

DROP INDEX calls_detached;
CREATE INDEX calls_detached ON calls (detached_us) WHERE state IN ('detached', 'transferred');
