-- What a directory last said of itself, its users, its groups and their memberships; what that makes of accounts and
-- grants; which events were seen and what came of them; and what changed by which of them. Versions are compared
-- bytewise. No foreign keys and no unique attributes: events arrive in any order and addresses move between people.

CREATE TABLE events (
	source text NOT NULL, id text NOT NULL, type text NOT NULL, subject text NOT NULL, directory text NOT NULL, organization text NOT NULL,
	occurred integer, received integer NOT NULL, folded integer NOT NULL, origin text NOT NULL, outcome text NOT NULL, reason text NOT NULL,
	key_version text NOT NULL, signed_at integer, body_sha256 text NOT NULL, binary_version text NOT NULL, config_digest text NOT NULL,
	CONSTRAINT events_pkey PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE INDEX events_received ON events (received);
CREATE INDEX events_subject ON events (source, directory, subject);

CREATE TABLE directories (
	source text NOT NULL, directory text NOT NULL, organization text NOT NULL, name text NOT NULL, type text NOT NULL, state text NOT NULL,
	version text NOT NULL, removed boolean NOT NULL, floor text NOT NULL, decision text NOT NULL, decision_version text NOT NULL,
	ended boolean NOT NULL, end_floor text NOT NULL, PRIMARY KEY (source, directory)) WITHOUT ROWID;

CREATE TABLE users (
	source text NOT NULL, directory text NOT NULL, user_id text NOT NULL, organization text NOT NULL, version text NOT NULL,
	active boolean NOT NULL, state text NOT NULL, email text NOT NULL, first_name text NOT NULL, last_name text NOT NULL, name text NOT NULL,
	attributes text, identity text NOT NULL, idp_id text NOT NULL, created integer, account_key text NOT NULL,
	PRIMARY KEY (source, directory, user_id)) WITHOUT ROWID;
CREATE INDEX users_account ON users (source, directory, account_key);

CREATE TABLE groups (
	source text NOT NULL, directory text NOT NULL, group_id text NOT NULL, organization text NOT NULL, idp_id text NOT NULL,
	version text NOT NULL, removed boolean NOT NULL, floor text NOT NULL, name text NOT NULL, name_version text NOT NULL,
	PRIMARY KEY (source, directory, group_id)) WITHOUT ROWID;

CREATE TABLE memberships (
	source text NOT NULL, directory text NOT NULL, group_id text NOT NULL, user_id text NOT NULL, version text NOT NULL, present boolean NOT NULL,
	PRIMARY KEY (source, directory, group_id, user_id)) WITHOUT ROWID;
CREATE INDEX memberships_user ON memberships (source, directory, user_id);

CREATE TABLE accounts (
	source text NOT NULL, directory text NOT NULL, account_key text NOT NULL, user_id text NOT NULL, organization text NOT NULL,
	idp_id text NOT NULL, state text NOT NULL, email text NOT NULL, first_name text NOT NULL, last_name text NOT NULL, name text NOT NULL,
	attributes text, active boolean NOT NULL, version text NOT NULL, tomb_user text NOT NULL, tomb_created integer, changed_at integer NOT NULL,
	PRIMARY KEY (source, directory, account_key)) WITHOUT ROWID;
CREATE INDEX accounts_email ON accounts (lower(email));

-- The grants that changes have announced. What is effective at this moment, ends counted at once, says effective_grants.
CREATE TABLE grants (
	source text NOT NULL, directory text NOT NULL, account_key text NOT NULL, group_id text NOT NULL, granted_at integer NOT NULL,
	PRIMARY KEY (source, directory, account_key, group_id)) WITHOUT ROWID;

CREATE TABLE changes (
	seq integer PRIMARY KEY AUTOINCREMENT, at integer NOT NULL, source text NOT NULL, directory text NOT NULL, kind text NOT NULL, account_key text NOT NULL,
	group_id text NOT NULL, event text NOT NULL, occurred integer NOT NULL, before text, after text,
	bound_at integer, bound_rows bigint, bound_digest text, bound_result text);
CREATE INDEX changes_account ON changes (source, directory, account_key, seq);
CREATE INDEX changes_event ON changes (event);

CREATE TABLE dead_events (
	source text NOT NULL, id text NOT NULL, type text NOT NULL, directory text NOT NULL, class text NOT NULL, error text NOT NULL,
	body blob NOT NULL, origin text NOT NULL, received integer NOT NULL, key_version text NOT NULL, signed_at integer,
	parked_at integer NOT NULL, due_at integer, attempts int NOT NULL, PRIMARY KEY (source, id));
CREATE INDEX dead_events_due ON dead_events (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE expansions (
	id integer PRIMARY KEY AUTOINCREMENT, source text NOT NULL, directory text NOT NULL, group_id text NOT NULL, event text NOT NULL, occurred integer NOT NULL,
	cursor text NOT NULL, done int NOT NULL, begun integer NOT NULL, finished_at integer);
CREATE INDEX expansions_open ON expansions (source, directory, id) WHERE finished_at IS NULL;

CREATE VIEW active_accounts AS
	SELECT a.source, a.directory, a.account_key, a.user_id, a.organization, a.idp_id, a.email, a.first_name, a.last_name, a.name,
		a.attributes, a.changed_at
	FROM accounts a
	LEFT JOIN directories d ON d.source = a.source AND d.directory = a.directory
	WHERE a.active AND (d.directory IS NULL OR (NOT d.ended AND a.version > d.end_floor));

CREATE VIEW effective_grants AS
	SELECT a.source, a.directory, a.account_key, m.user_id, m.group_id, coalesce(g.name, '') AS group_name, m.version
	FROM active_accounts a
	JOIN memberships m ON m.source = a.source AND m.directory = a.directory AND m.user_id = a.user_id
	LEFT JOIN groups g ON g.source = m.source AND g.directory = m.directory AND g.group_id = m.group_id
	LEFT JOIN directories d ON d.source = m.source AND d.directory = m.directory
	WHERE m.present AND (g.group_id IS NULL OR (NOT g.removed AND m.version > g.floor))
		AND (d.directory IS NULL OR m.version > d.end_floor);
