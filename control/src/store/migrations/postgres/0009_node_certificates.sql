-- The certificates that relays were given, by the SHA-256 of each; one that is not here is as good as
-- none. They belong to no tenant.
CREATE TABLE node_certificates (
    fingerprint TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    issued_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL
);
CREATE INDEX node_certificates_of_node ON node_certificates (node);

-- The nodes that are not let in any more, whatever they show.
CREATE TABLE revoked_nodes (
    node TEXT PRIMARY KEY,
    revoked_us BIGINT NOT NULL
);

GRANT SELECT, INSERT, DELETE ON node_certificates, revoked_nodes TO linecard_app;
