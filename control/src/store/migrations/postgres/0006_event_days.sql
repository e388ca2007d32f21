-- Events are kept by the day on which they were stored, so that a day that is too old goes as a
-- whole, without a row being touched. A control of the release before writes into the same name and
-- says nothing of `stored_us`: the default does.
--
-- A partitioned table has unique keys only with the column that it is divided by, so each day has
-- its own; within a tenant a later day has only higher places.
ALTER TABLE events RENAME TO events_before;
ALTER TABLE events_before ADD COLUMN stored_us BIGINT NOT NULL DEFAULT 0;
REVOKE ALL ON events_before FROM linecard_app, linecard_sequencer;

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
    stored_us BIGINT NOT NULL DEFAULT (extract(epoch FROM now()) * 1000000)::bigint
) PARTITION BY RANGE (stored_us);

GRANT SELECT ON events TO linecard_app;
GRANT INSERT ON events TO linecard_sequencer;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON events FOR SELECT TO linecard_app
    USING (tenant = nullif(current_setting('app.tenant', true), ''));
CREATE POLICY every ON events FOR INSERT TO linecard_sequencer WITH CHECK (true);

-- Makes the days that come, a week ahead, and drops those that ended more than `keep_days` ago;
-- NULL drops none. Returns how many were dropped. For the owner of the tables only.
--
-- A day is made on its own and then attached: that locks out nobody, while making it as a partition
-- would wait for every transaction on events, and hold up those that come after it.
CREATE FUNCTION linecard_event_days(keep_days BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    day_us CONSTANT BIGINT := 86400000000;
    today CONSTANT BIGINT := (extract(epoch FROM now()) * 1000000)::bigint / day_us;
    day_name TEXT;
    old RECORD;
    dropped BIGINT := 0;
BEGIN
    -- Several controls may do this at once; it is once enough.
    PERFORM pg_advisory_xact_lock(hashtextextended('linecard_event_days', 0));
    FOR day IN today .. today + 7 LOOP
        day_name := 'events_' || to_char(to_timestamp(day::bigint * 86400) AT TIME ZONE 'UTC', 'YYYYMMDD');
        CONTINUE WHEN to_regclass(quote_ident(day_name)) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS)', day_name);
        EXECUTE format('CREATE UNIQUE INDEX ON %I (tenant, seq)', day_name);
        EXECUTE format('CREATE INDEX ON %I (tenant, call, seq)', day_name);
        -- Reached by its own name, a day has no policy and shows nothing.
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', day_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', day_name);
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            day_name, day * day_us, (day + 1) * day_us);
    END LOOP;
    IF keep_days IS NULL THEN
        RETURN 0;
    END IF;
    -- Dropping waits for every transaction on events and holds up those behind it: not for long,
    -- then rather again an hour later.
    PERFORM set_config('lock_timeout', '500ms', true);
    FOR old IN
        SELECT child.relname AS name FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'events'::regclass
        AND substring(pg_get_expr(child.relpartbound, child.oid) FROM 'TO \(''?(\d+)''?\)')::bigint
            <= (today - keep_days) * day_us
    LOOP
        EXECUTE format('DROP TABLE %I', old.name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION linecard_event_days(BIGINT) FROM PUBLIC;

-- What was stored before this migration counts as stored on the day before it.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE events ATTACH PARTITION events_before FOR VALUES '
        'FROM (MINVALUE) TO (%s)',
        (extract(epoch FROM now()) * 1000000)::bigint / 86400000000 * 86400000000);
END $$;
SELECT linecard_event_days(NULL);
