-- What the application is told of the changes, and what came of it: which row of its users an account is, how far each
-- directory's changes are bound, what was found left over of somebody who left.

-- A change waits for a track, "bound" (the application's SQL) or "posted" (signed POSTs), while its column is null. A next
-- that is set says when to try again, of a change that failed (attempts > 0), or of one that waits behind it in its lane.
ALTER TABLE changes ADD COLUMN role text NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN bound_attempts int NOT NULL DEFAULT 0;
ALTER TABLE changes ADD COLUMN bound_next integer;
ALTER TABLE changes ADD COLUMN bound_error text;
ALTER TABLE changes ADD COLUMN posted_at integer;
ALTER TABLE changes ADD COLUMN posted_result text;
ALTER TABLE changes ADD COLUMN posted_attempts int NOT NULL DEFAULT 0;
ALTER TABLE changes ADD COLUMN posted_next integer;
ALTER TABLE changes ADD COLUMN posted_error text;
CREATE INDEX changes_unbound ON changes (source, directory, seq) WHERE bound_at IS NULL AND bound_next IS NULL;
CREATE INDEX changes_unbound_ends ON changes (source, directory, seq)
	WHERE bound_at IS NULL AND bound_next IS NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_unbound_again ON changes (source, directory, bound_next, seq) WHERE bound_at IS NULL AND bound_next IS NOT NULL;
CREATE INDEX changes_unbound_ends_again ON changes (source, directory, bound_next, seq)
	WHERE bound_at IS NULL AND bound_next IS NOT NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_unposted ON changes (source, directory, seq) WHERE posted_at IS NULL AND posted_next IS NULL;
CREATE INDEX changes_unposted_ends ON changes (source, directory, seq)
	WHERE posted_at IS NULL AND posted_next IS NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_unposted_again ON changes (source, directory, posted_next, seq) WHERE posted_at IS NULL AND posted_next IS NOT NULL;
CREATE INDEX changes_unposted_ends_again ON changes (source, directory, posted_next, seq)
	WHERE posted_at IS NULL AND posted_next IS NOT NULL AND kind IN ('account.deactivated', 'grant.revoked', 'role.revoked');
CREATE INDEX changes_own ON changes (source, directory, group_id, seq)
	WHERE account_key = '' AND (bound_at IS NULL OR posted_at IS NULL);
CREATE INDEX changes_done ON changes (bound_at) WHERE bound_result <> 'observed';

-- The roles that an account was announced to have, and those that each grant gives: JSON arrays, null when there are none.
ALTER TABLE accounts ADD COLUMN roles text;
ALTER TABLE grants ADD COLUMN roles text;

-- A mark: this binding took effect for this change, in the transaction that wrote the row. An application in a database of its
-- own has such a table beside its own. change says what the change was: after a backup was restored its number may be given again.
CREATE TABLE bound (
	seq integer NOT NULL, binding text NOT NULL, change text NOT NULL, at integer NOT NULL, rows integer NOT NULL, digest text NOT NULL,
	PRIMARY KEY (seq, binding, change)) WITHOUT ROWID;

CREATE TABLE modes (
	source text NOT NULL, directory text NOT NULL, mode text NOT NULL, changed_at integer NOT NULL,
	changed_by text NOT NULL, reason text NOT NULL, PRIMARY KEY (source, directory)) WITHOUT ROWID;

-- Which row of the application's users an account is, or why that is not known. next_at is when to look again.
CREATE TABLE links (
	source text NOT NULL, directory text NOT NULL, account_key text NOT NULL,
	state text NOT NULL, app_id text NOT NULL, tenant text NOT NULL, how text NOT NULL,
	detail text NOT NULL, changed_at integer NOT NULL, changed_by text NOT NULL, tries int NOT NULL, next_at integer,
	PRIMARY KEY (source, directory, account_key)) WITHOUT ROWID;
CREATE UNIQUE INDEX links_once ON links (source, directory, tenant, app_id) WHERE state = 'linked';
CREATE INDEX links_app ON links (app_id, tenant) WHERE state = 'linked';
CREATE INDEX links_due ON links (next_at) WHERE next_at IS NOT NULL;

-- The last verdict of each probe on each inactive account.
CREATE TABLE probes (
	source text NOT NULL, directory text NOT NULL, account_key text NOT NULL, probe text NOT NULL,
	seq integer NOT NULL, at integer NOT NULL, verdict text NOT NULL, rows integer NOT NULL, detail text NOT NULL,
	PRIMARY KEY (source, directory, account_key, probe)) WITHOUT ROWID;

-- Accounts of the application that may be active without a directory account, each with who answers for it and until when.
CREATE TABLE exemptions (
	tenant text NOT NULL, app_id text NOT NULL, owner text NOT NULL, reason text NOT NULL,
	created_at integer NOT NULL, created_by text NOT NULL, expires_at integer NOT NULL, PRIMARY KEY (tenant, app_id)) WITHOUT ROWID;

-- As it was, but an account's memberships are found by their user: without being told, SQLite would walk the whole directory's for each account.
DROP VIEW effective_grants;
CREATE VIEW effective_grants AS
	SELECT a.source, a.directory, a.account_key, m.user_id, m.group_id, coalesce(g.name, '') AS group_name, m.version
	FROM active_accounts a
	CROSS JOIN memberships m INDEXED BY memberships_user ON m.source = a.source AND m.directory = a.directory AND m.user_id = a.user_id
	LEFT JOIN groups g ON g.source = m.source AND g.directory = m.directory AND g.group_id = m.group_id
	LEFT JOIN directories d ON d.source = m.source AND d.directory = m.directory
	WHERE m.present AND (g.group_id IS NULL OR (NOT g.removed AND m.version > g.floor))
		AND (d.directory IS NULL OR m.version > d.end_floor);
