-- How far the log of each source's provider is read, and who reads it. The cursor is the id of the last event that the ledger holds
-- together with all before it; an empty one begins at since, or at the oldest that the provider keeps. moves counts its moves. began
-- and started say where the log was first read from and when, and with occurred and watermark are the provider's times; all others are
-- this database's.
CREATE TABLE poll_cursors (
	source text NOT NULL PRIMARY KEY, cursor text NOT NULL DEFAULT '', occurred integer, since integer, moves integer NOT NULL DEFAULT 0,
	began integer, started integer, watermark integer,
	paged_at integer, caught_up_at integer, moved_at integer,
	holder text NOT NULL DEFAULT '', held_until integer,
	missed integer NOT NULL DEFAULT 0, error text NOT NULL DEFAULT '', failed_at integer,
	restarts integer NOT NULL DEFAULT 0, restarted_at integer, restarted_cursor text NOT NULL DEFAULT '', restarted_occurred integer,
	rewound_at integer, rewound_by text NOT NULL DEFAULT '') WITHOUT ROWID;
