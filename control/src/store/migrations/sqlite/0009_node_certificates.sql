-- The certificates that relays were given, by the SHA-256 of each; one that is not here is as good as
-- none.
CREATE TABLE node_certificates (
    fingerprint TEXT PRIMARY KEY NOT NULL,
    node TEXT NOT NULL,
    issued_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
) STRICT;
CREATE INDEX node_certificates_of_node ON node_certificates (node);

-- The nodes that are not let in any more, whatever they show.
CREATE TABLE revoked_nodes (
    node TEXT PRIMARY KEY NOT NULL,
    revoked_us INTEGER NOT NULL
) STRICT;
