-- How far the log of each source's provider is read, and who reads it. The cursor is the id of the last event that the ledger holds
-- together with all before it; an empty one begins at since, or at the oldest that the provider keeps. moves counts its moves. began
-- and started say where the log was first read from and when, and with occurred and watermark are the provider's times; all others are
-- this database's.
CREATE TABLE rollcall.poll_cursors (
	source text COLLATE "C" NOT NULL PRIMARY KEY, cursor text COLLATE "C" NOT NULL DEFAULT '', occurred timestamptz, since timestamptz, moves bigint NOT NULL DEFAULT 0,
	began timestamptz, started timestamptz, watermark timestamptz,
	paged_at timestamptz, caught_up_at timestamptz, moved_at timestamptz,
	holder text COLLATE "C" NOT NULL DEFAULT '', held_until timestamptz,
	missed bigint NOT NULL DEFAULT 0, error text COLLATE "C" NOT NULL DEFAULT '', failed_at timestamptz,
	restarts bigint NOT NULL DEFAULT 0, restarted_at timestamptz, restarted_cursor text COLLATE "C" NOT NULL DEFAULT '', restarted_occurred timestamptz,
	rewound_at timestamptz, rewound_by text COLLATE "C" NOT NULL DEFAULT '');
