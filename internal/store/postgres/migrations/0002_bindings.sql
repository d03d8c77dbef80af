-- What the application is told of the changes, and what came of it: which row of its users an account is, how far each
-- directory's changes are bound, what was found left over of somebody who left.

-- A change waits for a track, "bound" (the application's SQL) or "posted" (signed POSTs), while its column is null. tx
-- is the transaction that wrote it: a feed in the order of (tx, seq) never passes one that is still open. A next that is set
-- says when to try again, of a change that failed (attempts > 0), or of one that waits behind it in its lane.
ALTER TABLE rollcall.changes
	ADD COLUMN role text COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
	ADD COLUMN bound_attempts int NOT NULL DEFAULT 0, ADD COLUMN bound_next timestamptz, ADD COLUMN bound_error text COLLATE "C",
	ADD COLUMN posted_at timestamptz, ADD COLUMN posted_result text COLLATE "C",
	ADD COLUMN posted_attempts int NOT NULL DEFAULT 0, ADD COLUMN posted_next timestamptz, ADD COLUMN posted_error text COLLATE "C";
CREATE INDEX changes_feed ON rollcall.changes (tx, seq);
CREATE INDEX changes_unbound ON rollcall.changes (source, directory, seq) WHERE bound_at IS NULL AND bound_next IS NULL;
CREATE INDEX changes_unbound_ends ON rollcall.changes (source, directory, seq)
	WHERE bound_at IS NULL AND bound_next IS NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_unbound_again ON rollcall.changes (source, directory, bound_next, seq) WHERE bound_at IS NULL AND bound_next IS NOT NULL;
CREATE INDEX changes_unbound_ends_again ON rollcall.changes (source, directory, bound_next, seq)
	WHERE bound_at IS NULL AND bound_next IS NOT NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_unposted ON rollcall.changes (source, directory, seq) WHERE posted_at IS NULL AND posted_next IS NULL;
CREATE INDEX changes_unposted_ends ON rollcall.changes (source, directory, seq)
	WHERE posted_at IS NULL AND posted_next IS NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_unposted_again ON rollcall.changes (source, directory, posted_next, seq) WHERE posted_at IS NULL AND posted_next IS NOT NULL;
CREATE INDEX changes_unposted_ends_again ON rollcall.changes (source, directory, posted_next, seq)
	WHERE posted_at IS NULL AND posted_next IS NOT NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_own ON rollcall.changes (source, directory, group_id, seq)
	WHERE account_key = '' AND (bound_at IS NULL OR posted_at IS NULL);
CREATE INDEX changes_done ON rollcall.changes (bound_at) WHERE bound_result <> 'observed';

-- The roles that an account was announced to have, and those that each grant gives: JSON arrays, null when there are none.
ALTER TABLE rollcall.accounts ADD COLUMN roles jsonb;
ALTER TABLE rollcall.grants ADD COLUMN roles jsonb;

-- A mark: this binding took effect for this change, in the transaction that wrote the row. An application in a database of its
-- own has such a table beside its own. change says what the change was: after a backup was restored its number may be given again.
CREATE TABLE IF NOT EXISTS rollcall.bound (
	seq bigint NOT NULL, binding text COLLATE "C" NOT NULL, change text COLLATE "C" NOT NULL, at timestamptz NOT NULL, rows bigint NOT NULL, digest text COLLATE "C" NOT NULL,
	PRIMARY KEY (seq, binding, change));

CREATE TABLE rollcall.modes (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, mode text COLLATE "C" NOT NULL, changed_at timestamptz NOT NULL,
	changed_by text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL, PRIMARY KEY (source, directory));

-- Which row of the application's users an account is, or why that is not known. next_at is when to look again.
CREATE TABLE rollcall.links (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, account_key text COLLATE "C" NOT NULL,
	state text COLLATE "C" NOT NULL, app_id text COLLATE "C" NOT NULL, tenant text COLLATE "C" NOT NULL, how text COLLATE "C" NOT NULL,
	detail text COLLATE "C" NOT NULL, changed_at timestamptz NOT NULL, changed_by text COLLATE "C" NOT NULL, tries int NOT NULL, next_at timestamptz,
	PRIMARY KEY (source, directory, account_key));
CREATE UNIQUE INDEX links_once ON rollcall.links (source, directory, tenant, app_id) WHERE state = 'linked';
CREATE INDEX links_app ON rollcall.links (app_id, tenant) WHERE state = 'linked';
CREATE INDEX links_due ON rollcall.links (next_at) WHERE next_at IS NOT NULL;

-- The last verdict of each probe on each inactive account.
CREATE TABLE rollcall.probes (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, account_key text COLLATE "C" NOT NULL, probe text COLLATE "C" NOT NULL,
	seq bigint NOT NULL, at timestamptz NOT NULL, verdict text COLLATE "C" NOT NULL, rows bigint NOT NULL, detail text COLLATE "C" NOT NULL,
	PRIMARY KEY (source, directory, account_key, probe));

-- Accounts of the application that may be active without a directory account, each with who answers for it and until when.
CREATE TABLE rollcall.exemptions (
	tenant text COLLATE "C" NOT NULL, app_id text COLLATE "C" NOT NULL, owner text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL, created_by text COLLATE "C" NOT NULL, expires_at timestamptz NOT NULL, PRIMARY KEY (tenant, app_id));
