-- Events know when they were stored, so that what is too old can be deleted; on PostgreSQL they are
-- divided by it. Within a tenant it grows with the place, so that it needs no index.
ALTER TABLE events ADD COLUMN stored_us INTEGER NOT NULL DEFAULT 0;
UPDATE events SET stored_us = CAST(unixepoch('now') * 1000000 AS INTEGER);
