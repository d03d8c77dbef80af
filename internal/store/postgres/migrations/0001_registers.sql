-- What a directory last said of itself, its users, its groups and their memberships; what that makes of accounts and
-- grants; which events were seen and what came of them; and what changed by which of them. Versions are compared
-- bytewise. No foreign keys and no unique attributes: events arrive in any order and addresses move between people.
--
-- Second indexes begin with the column that tells most: while a table is young, one that shared the beginning of the
-- primary key would look as good to the planner, and be read from end to end for every key.

CREATE TABLE rollcall.events (
	source text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL, subject text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL,
	occurred timestamptz, received timestamptz NOT NULL, folded timestamptz NOT NULL, origin text COLLATE "C" NOT NULL, outcome text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL,
	key_version text COLLATE "C" NOT NULL, signed_at timestamptz, body_sha256 text COLLATE "C" NOT NULL, binary_version text COLLATE "C" NOT NULL, config_digest text COLLATE "C" NOT NULL,
	CONSTRAINT events_pkey PRIMARY KEY (source, id));
CREATE INDEX events_received ON rollcall.events (received);
CREATE INDEX events_subject ON rollcall.events (subject, directory, source);

CREATE TABLE rollcall.directories (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL,
	version text COLLATE "C" NOT NULL, removed boolean NOT NULL, floor text COLLATE "C" NOT NULL, decision text COLLATE "C" NOT NULL, decision_version text COLLATE "C" NOT NULL,
	ended boolean NOT NULL, end_floor text COLLATE "C" NOT NULL, PRIMARY KEY (source, directory));

CREATE TABLE rollcall.users (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL, version text COLLATE "C" NOT NULL,
	active boolean NOT NULL, state text COLLATE "C" NOT NULL, email text COLLATE "C" NOT NULL, first_name text COLLATE "C" NOT NULL, last_name text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL,
	attributes jsonb, identity text COLLATE "C" NOT NULL, idp_id text COLLATE "C" NOT NULL, created timestamptz, account_key text COLLATE "C" NOT NULL,
	PRIMARY KEY (source, directory, user_id));
CREATE INDEX users_account ON rollcall.users (account_key, directory, source);

CREATE TABLE rollcall.groups (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL, idp_id text COLLATE "C" NOT NULL,
	version text COLLATE "C" NOT NULL, removed boolean NOT NULL, floor text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, name_version text COLLATE "C" NOT NULL,
	PRIMARY KEY (source, directory, group_id));

CREATE TABLE rollcall.memberships (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, version text COLLATE "C" NOT NULL, present boolean NOT NULL,
	PRIMARY KEY (source, directory, group_id, user_id));
CREATE INDEX memberships_user ON rollcall.memberships (user_id, directory, source);

CREATE TABLE rollcall.accounts (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, account_key text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL,
	idp_id text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL, email text COLLATE "C" NOT NULL, first_name text COLLATE "C" NOT NULL, last_name text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL,
	attributes jsonb, active boolean NOT NULL, version text COLLATE "C" NOT NULL, tomb_user text COLLATE "C" NOT NULL, tomb_created timestamptz, changed_at timestamptz NOT NULL,
	PRIMARY KEY (source, directory, account_key));
CREATE INDEX accounts_email ON rollcall.accounts (lower(email));

-- The grants that changes have announced. What is effective at this moment, ends counted at once, says effective_grants.
CREATE TABLE rollcall.grants (
	source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, account_key text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, granted_at timestamptz NOT NULL,
	PRIMARY KEY (source, directory, account_key, group_id));

CREATE TABLE rollcall.changes (
	seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, account_key text COLLATE "C" NOT NULL,
	group_id text COLLATE "C" NOT NULL, event text COLLATE "C" NOT NULL, occurred timestamptz NOT NULL, before jsonb, after jsonb,
	bound_at timestamptz, bound_rows bigint, bound_digest text COLLATE "C", bound_result text COLLATE "C");
CREATE INDEX changes_account ON rollcall.changes (source, directory, account_key, seq);
CREATE INDEX changes_event ON rollcall.changes (event);

CREATE TABLE rollcall.dead_events (
	source text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, class text COLLATE "C" NOT NULL, error text COLLATE "C" NOT NULL,
	body bytea NOT NULL, origin text COLLATE "C" NOT NULL, received timestamptz NOT NULL, key_version text COLLATE "C" NOT NULL, signed_at timestamptz,
	parked_at timestamptz NOT NULL, due_at timestamptz, attempts int NOT NULL, PRIMARY KEY (source, id));
CREATE INDEX dead_events_due ON rollcall.dead_events (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE rollcall.expansions (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, event text COLLATE "C" NOT NULL, occurred timestamptz NOT NULL,
	cursor text COLLATE "C" NOT NULL, done int NOT NULL, begun timestamptz NOT NULL, finished_at timestamptz);
CREATE INDEX expansions_open ON rollcall.expansions (source, directory, id) WHERE finished_at IS NULL;

CREATE VIEW rollcall.active_accounts AS
	SELECT a.source, a.directory, a.account_key, a.user_id, a.organization, a.idp_id, a.email, a.first_name, a.last_name, a.name,
		a.attributes, a.changed_at
	FROM rollcall.accounts a
	LEFT JOIN rollcall.directories d ON d.source = a.source AND d.directory = a.directory
	WHERE a.active AND (d.directory IS NULL OR (NOT d.ended AND a.version > d.end_floor));

CREATE VIEW rollcall.effective_grants AS
	SELECT a.source, a.directory, a.account_key, m.user_id, m.group_id, coalesce(g.name, '') AS group_name, m.version
	FROM rollcall.active_accounts a
	JOIN rollcall.memberships m ON m.source = a.source AND m.directory = a.directory AND m.user_id = a.user_id
	LEFT JOIN rollcall.groups g ON g.source = m.source AND g.directory = m.directory AND g.group_id = m.group_id
	LEFT JOIN rollcall.directories d ON d.source = m.source AND d.directory = m.directory
	WHERE m.present AND (g.group_id IS NULL OR (NOT g.removed AND m.version > g.floor))
		AND (d.directory IS NULL OR m.version > d.end_floor);
