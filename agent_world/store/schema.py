"""Tables of a node's two databases, as migrations; the newest version is the sum of all."""

from __future__ import annotations

from typing import Final

from agent_world.store.database import Schema

_BLOBS: Final = (
    # data is NULL for a blob that is a file; the row is still what says that it is here.
    """CREATE TABLE blobs (
        content_hash BLOB PRIMARY KEY CHECK (length(content_hash) = 32),
        size_bytes INTEGER NOT NULL,
        data BLOB
    ) STRICT""",
    # Kept by triggers, as content_counts below: the quota asks on every write.
    "CREATE TABLE blob_usage (id INTEGER PRIMARY KEY CHECK (id = 1), blobs INTEGER, size_bytes INTEGER) STRICT",
    "INSERT INTO blob_usage VALUES (1, 0, 0)",
    """CREATE TRIGGER blob_added AFTER INSERT ON blobs BEGIN
        UPDATE blob_usage SET blobs = blobs + 1, size_bytes = size_bytes + NEW.size_bytes;
    END""",
    """CREATE TRIGGER blob_changed AFTER UPDATE OF size_bytes ON blobs BEGIN
        UPDATE blob_usage SET size_bytes = size_bytes - OLD.size_bytes + NEW.size_bytes;
    END""",
    """CREATE TRIGGER blob_removed AFTER DELETE ON blobs BEGIN
        UPDATE blob_usage SET blobs = blobs - 1, size_bytes = size_bytes - OLD.size_bytes;
    END""",
)
_CHAIN: Final = (
    # certificate_hash: signatures are not covered by the block hash, so damage to them is found by their own hash.
    """CREATE TABLE blocks (
        height INTEGER PRIMARY KEY CHECK (height > 0),
        block_hash BLOB NOT NULL UNIQUE,
        block BLOB NOT NULL,
        certificate BLOB NOT NULL,
        certificate_hash BLOB NOT NULL,
        first_event_id INTEGER,
        last_event_id INTEGER
    ) STRICT""",
    "CREATE UNIQUE INDEX blocks_by_event ON blocks (first_event_id) WHERE first_event_id IS NOT NULL",
    # The committed floor lives apart from the blocks, so that removing old blocks can never lower it (I-4).
    """CREATE TABLE chain_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        base_height INTEGER NOT NULL,
        height INTEGER NOT NULL,
        block_hash BLOB NOT NULL
    ) STRICT""",
    """CREATE TRIGGER chain_head_never_falls BEFORE UPDATE ON chain_head
        WHEN NEW.height <= OLD.height OR NEW.base_height < OLD.base_height
        BEGIN SELECT RAISE(ABORT, 'the committed height never falls'); END""",
    """CREATE TRIGGER chain_head_stays BEFORE DELETE ON chain_head
        BEGIN SELECT RAISE(ABORT, 'the committed height never falls'); END""",
    """CREATE TABLE receipts (
        action_id BLOB PRIMARY KEY CHECK (length(action_id) = 32),
        height INTEGER NOT NULL,
        position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
)
_CONTENT: Final = (
    """CREATE TABLE content (
        cid BLOB PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        next_try_ms INTEGER NOT NULL,
        last_error TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX content_by_state ON content (state, next_try_ms, cid)",
    # Kept by triggers: a status page must not count a million rows, and a rolled back change must not be counted.
    """CREATE TABLE content_counts (
        state TEXT PRIMARY KEY, items INTEGER NOT NULL, size_bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "INSERT INTO content_counts VALUES ('wanted', 0, 0), ('have', 0, 0), ('unavailable', 0, 0)",
    """CREATE TRIGGER content_added AFTER INSERT ON content BEGIN
        UPDATE content_counts SET items = items + 1, size_bytes = size_bytes + NEW.size_bytes WHERE state = NEW.state;
    END""",
    """CREATE TRIGGER content_moved AFTER UPDATE ON content BEGIN
        UPDATE content_counts SET items = items - 1, size_bytes = size_bytes - OLD.size_bytes WHERE state = OLD.state;
        UPDATE content_counts SET items = items + 1, size_bytes = size_bytes + NEW.size_bytes WHERE state = NEW.state;
    END""",
    """CREATE TRIGGER content_removed AFTER DELETE ON content BEGIN
        UPDATE content_counts SET items = items - 1, size_bytes = size_bytes - OLD.size_bytes WHERE state = OLD.state;
    END""",
)
_PEERS: Final = (
    """CREATE TABLE peers (
        peer_id TEXT PRIMARY KEY,
        addresses BLOB NOT NULL,
        last_seen_ms INTEGER NOT NULL,
        verified INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX peers_by_age ON peers (verified, last_seen_ms)",
)

_DHT: Final = (
    # What this node announces, and up to where the chain was searched for it.
    "CREATE TABLE provided_roots (cid BLOB PRIMARY KEY, next_due_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX provided_by_due ON provided_roots (next_due_ms, cid)",
    "CREATE TABLE provided_walk (id INTEGER PRIMARY KEY CHECK (id = 1), height INTEGER NOT NULL) STRICT",
    "INSERT INTO provided_walk VALUES (1, 0)",
    # Answers of the DHT; hints, so losing a row harms nobody.
    """CREATE TABLE dht_providers (
        cid BLOB PRIMARY KEY, providers BLOB NOT NULL, fetched_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE dht_records (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, fetched_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
)

_BANS: Final = (
    """CREATE TABLE peer_bans (
        peer_id TEXT PRIMARY KEY, until_ms INTEGER NOT NULL, reason TEXT NOT NULL, score INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX peer_bans_by_end ON peer_bans (until_ms)",
)

_FILES: Final = (
    # Files of which the manifest is here and not every chunk: what of their bytes is.
    "ALTER TABLE content ADD COLUMN here_bytes INTEGER NOT NULL DEFAULT 0",
    "INSERT INTO content_counts VALUES ('fetching', 0, 0)",
)

_BOUNDARIES: Final = (
    # Never pruned, unlike blocks and states: by these a light verifier follows the validator sets (D4).
    """CREATE TABLE boundaries (
        height INTEGER PRIMARY KEY CHECK (height > 0),
        block BLOB NOT NULL,
        certificate BLOB NOT NULL,
        validators BLOB NOT NULL
    ) STRICT""",
)

_EVIDENCE: Final = (
    """CREATE TABLE evidence (
        public_key BLOB NOT NULL, height INTEGER NOT NULL, round INTEGER NOT NULL, evidence BLOB NOT NULL,
        PRIMARY KEY (public_key, height, round)
    ) STRICT, WITHOUT ROWID""",
)

_GUARD_MADE: Final = (
    # Kept apart from the guard's own files: whether they are missing or were never made.
    "CREATE TABLE guard_made (id INTEGER PRIMARY KEY CHECK (id = 1), validator_key BLOB NOT NULL) STRICT",
)

_NAMED: Final = (
    # What people and programs want kept, by a name of their own and by a path.
    """CREATE TABLE pins (
        name TEXT PRIMARY KEY,
        cid BLOB NOT NULL,
        recursive INTEGER NOT NULL,
        made_ms INTEGER NOT NULL,
        expires_ms INTEGER
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX pins_by_end ON pins (expires_ms) WHERE expires_ms IS NOT NULL",
    """CREATE TABLE file_index (
        path TEXT PRIMARY KEY,
        cid BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
)

_COLLECTION: Final = (
    # kept = 1: what a commit of the chain has stored, which no collection looks at. Of rows that were here before
    # nobody knows, so they stay.
    "ALTER TABLE blobs ADD COLUMN kept INTEGER NOT NULL DEFAULT 1",
    "CREATE INDEX blobs_not_kept ON blobs (content_hash) WHERE kept = 0",
    "ALTER TABLE blob_usage ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0",
    "UPDATE blob_usage SET kept_bytes = size_bytes",
    "DROP TRIGGER blob_added",
    "DROP TRIGGER blob_changed",
    "DROP TRIGGER blob_removed",
    """CREATE TRIGGER blob_added AFTER INSERT ON blobs BEGIN
        UPDATE blob_usage SET blobs = blobs + 1, size_bytes = size_bytes + NEW.size_bytes,
        kept_bytes = kept_bytes + NEW.kept * NEW.size_bytes;
    END""",
    """CREATE TRIGGER blob_changed AFTER UPDATE OF size_bytes, kept ON blobs BEGIN
        UPDATE blob_usage SET size_bytes = size_bytes - OLD.size_bytes + NEW.size_bytes,
        kept_bytes = kept_bytes - OLD.kept * OLD.size_bytes + NEW.kept * NEW.size_bytes;
    END""",
    """CREATE TRIGGER blob_removed AFTER DELETE ON blobs BEGIN
        UPDATE blob_usage SET blobs = blobs - 1, size_bytes = size_bytes - OLD.size_bytes,
        kept_bytes = kept_bytes - OLD.kept * OLD.size_bytes;
    END""",
    # Parts of the chain that were damaged: kept again when they are healed.
    "CREATE TABLE kept_lost (content_hash BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
    # What no root reached when it was last looked, and since when; age is the row's number in blobs: lower is older.
    """CREATE TABLE gc_candidates (
        content_hash BLOB PRIMARY KEY, since_ms INTEGER NOT NULL, age INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX gc_candidates_by_age ON gc_candidates (age)",
    # Roots that came after a collection has begun to mark, from whatever process. EXCEPT and not OR IGNORE: in a
    # trigger the outer statement's way with conflicts counts, and an upsert has it fail.
    "CREATE TABLE gc_state (id INTEGER PRIMARY KEY CHECK (id = 1), marking INTEGER NOT NULL) STRICT",
    "INSERT INTO gc_state VALUES (1, 0)",
    "CREATE TABLE gc_new_roots (cid BLOB PRIMARY KEY) STRICT, WITHOUT ROWID",
    """CREATE TRIGGER pin_is_root AFTER INSERT ON pins WHEN (SELECT marking FROM gc_state)
        BEGIN INSERT INTO gc_new_roots SELECT NEW.cid EXCEPT SELECT cid FROM gc_new_roots; END""",
    """CREATE TRIGGER file_is_root AFTER INSERT ON file_index WHEN (SELECT marking FROM gc_state)
        BEGIN INSERT INTO gc_new_roots SELECT NEW.cid EXCEPT SELECT cid FROM gc_new_roots; END""",
    """CREATE TRIGGER changed_file_is_root AFTER UPDATE OF cid ON file_index WHEN (SELECT marking FROM gc_state)
        BEGIN INSERT INTO gc_new_roots SELECT NEW.cid EXCEPT SELECT cid FROM gc_new_roots; END""",
    """CREATE TRIGGER content_is_root AFTER INSERT ON content WHEN (SELECT marking FROM gc_state)
        BEGIN INSERT INTO gc_new_roots SELECT NEW.cid EXCEPT SELECT cid FROM gc_new_roots; END""",
    # Imports whose root comes last; what came after the oldest has begun is not swept.
    "CREATE TABLE gc_holds (id INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL) STRICT",
)

_REPLICATION: Final = (
    # The log of the world's writer as accepted here. ``position`` is the order of acceptance, for samples; ``record``
    # is the signed record as it travels.
    """CREATE TABLE replication_records (
        position INTEGER PRIMARY KEY,
        writer_epoch INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        path TEXT NOT NULL,
        commit_height INTEGER,
        record BLOB NOT NULL,
        UNIQUE (writer_epoch, sequence)
    ) STRICT""",
    "CREATE INDEX replication_by_height ON replication_records (commit_height) WHERE commit_height IS NOT NULL",
    "CREATE INDEX replication_by_path ON replication_records (path, position)",
    """CREATE TABLE replication_guard (
        world_id TEXT PRIMARY KEY,
        writer_id TEXT NOT NULL,
        writer_epoch INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    # What this node has to publish as the writer, in order.
    """CREATE TABLE replication_outbox (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        path TEXT NOT NULL,
        commit_height INTEGER UNIQUE,
        cid BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL
    ) STRICT""",
)

_CHALLENGES: Final = (
    # What challenges have shown of other nodes, and where the probe of the own disk is; states are JSON.
    """CREATE TABLE challenge_targets (
        peer_id TEXT PRIMARY KEY, state TEXT NOT NULL, checked_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE challenge_probe (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL) STRICT",
)

_SCRUB: Final = (
    # How far the reading of all blobs has come, and what it found damaged and could not yet have back.
    """CREATE TABLE scrub (
        id INTEGER PRIMARY KEY CHECK (id = 1), last_hash BLOB, passes INTEGER NOT NULL, ended_ms INTEGER
    ) STRICT""",
    "INSERT INTO scrub VALUES (1, NULL, 0, NULL)",
    """CREATE TABLE lost_blobs (
        content_hash BLOB PRIMARY KEY CHECK (length(content_hash) = 32),
        found_ms INTEGER NOT NULL,
        tries INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX lost_blobs_by_tries ON lost_blobs (tries, content_hash)",
)

_REPLICAS: Final = (
    # named = 1: the world names it, so copies of it are planned. Its state is 'named' too while it is left to others.
    "ALTER TABLE content ADD COLUMN named INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX content_named ON content (cid) WHERE named = 1",
    "INSERT INTO content_counts VALUES ('named', 0, 0)",
    "CREATE INDEX pins_by_cid ON pins (cid)",
    "CREATE INDEX file_index_by_cid ON file_index (cid)",
    # since_ms = 0: given up on purpose, so no grace is waited for.
    "CREATE INDEX gc_given_up ON gc_candidates (content_hash) WHERE since_ms = 0",
    "DROP TRIGGER content_is_root",
    """CREATE TRIGGER content_is_root AFTER INSERT ON content
        WHEN (SELECT marking FROM gc_state) AND NEW.state <> 'named'
        BEGIN INSERT INTO gc_new_roots SELECT NEW.cid EXCEPT SELECT cid FROM gc_new_roots; END""",
    """CREATE TRIGGER content_taken_up_is_root AFTER UPDATE OF state ON content
        WHEN (SELECT marking FROM gc_state) AND OLD.state = 'named' AND NEW.state <> 'named'
        BEGIN INSERT INTO gc_new_roots SELECT NEW.cid EXCEPT SELECT cid FROM gc_new_roots; END""",
)
_UNIXFS: Final = (
    # Files as IPFS tools know them; root_hash is NULL for content that is no file. Files may share nodes.
    """CREATE TABLE unixfs_files (
        file_hash BLOB PRIMARY KEY CHECK (length(file_hash) = 32), root_hash BLOB
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE unixfs_nodes (
        node_hash BLOB NOT NULL CHECK (length(node_hash) = 32),
        file_hash BLOB NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (node_hash, file_hash)
    ) STRICT""",
    "CREATE INDEX unixfs_nodes_by_file ON unixfs_nodes (file_hash)",
    """CREATE TRIGGER unixfs_goes_with_its_file AFTER DELETE ON blobs BEGIN
        DELETE FROM unixfs_files WHERE file_hash = OLD.content_hash;
        DELETE FROM unixfs_nodes WHERE file_hash = OLD.content_hash;
    END""",
)

WORLD: Final = Schema(
    application_id=0x4157_5744,
    migrations=(
        (*_BLOBS, *_CHAIN, *_CONTENT, *_PEERS),
        _DHT,
        _BANS,
        _FILES,
        (*_BOUNDARIES, *_EVIDENCE),
        _GUARD_MADE,
        _NAMED,
        _COLLECTION,
        _REPLICATION,
        _CHALLENGES,
        _SCRUB,
        _REPLICAS,
        _UNIXFS,
    ),
)
"""world.db ("AWWD"): blobs, blocks, content to pull, peers, what is announced in the DHT and what it answered,
banned peers, where other validators took over, evidence against validators, whose vote guard this home has,
pins, files by their paths, what collecting garbage has found, the replication log with what is to be published, what
storage challenges have shown, and the UnixFS nodes of files."""

GUARD: Final = Schema(
    application_id=0x4157_4744,
    migrations=(
        (
            "CREATE TABLE identity (id INTEGER PRIMARY KEY CHECK (id = 1), validator_key BLOB NOT NULL) STRICT",
            # height is the highest that the record names, found without its bytes; checksum is BLAKE3 of record.
            """CREATE TABLE records (
                sequence INTEGER PRIMARY KEY,
                height INTEGER NOT NULL,
                record BLOB NOT NULL,
                checksum BLOB NOT NULL
            ) STRICT""",
        ),
    ),
)
"""guard.db ("AWGD"): what this validator has signed."""
