-- Comparisons of directories with their own listings, and what came of them. The row that has not ended is the run's hold on its
-- directory, until its lease is over.
CREATE TABLE reconcile_runs (
	id text NOT NULL PRIMARY KEY, source text NOT NULL, directory text NOT NULL, trigger text NOT NULL,
	begun integer NOT NULL, lease integer NOT NULL, ended integer, complete boolean NOT NULL, reason text NOT NULL, skew_us integer NOT NULL, fence integer,
	users integer NOT NULL, groups integer NOT NULL, memberships integer NOT NULL, active integer NOT NULL, kinds text, digest text NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX reconcile_runs_open ON reconcile_runs (source, directory) WHERE ended IS NULL;
CREATE INDEX reconcile_runs_newest ON reconcile_runs (source, directory, begun);

-- What a run was told, and where it differs from the registers. All of it goes when the run ends.
CREATE TABLE reconcile_users (
	run text NOT NULL, user_id text NOT NULL, organization text NOT NULL, active boolean NOT NULL, state text NOT NULL,
	email text NOT NULL, first_name text NOT NULL, last_name text NOT NULL, name text NOT NULL, attributes text,
	idp_id text NOT NULL, created integer, updated integer, PRIMARY KEY (run, user_id)) WITHOUT ROWID;
CREATE TABLE reconcile_groups (
	run text NOT NULL, group_id text NOT NULL, organization text NOT NULL, idp_id text NOT NULL, name text NOT NULL,
	updated integer, PRIMARY KEY (run, group_id)) WITHOUT ROWID;
CREATE TABLE reconcile_memberships (
	run text NOT NULL, group_id text NOT NULL, user_id text NOT NULL, PRIMARY KEY (run, group_id, user_id)) WITHOUT ROWID;
CREATE TABLE reconcile_drift (
	run text NOT NULL, rank integer NOT NULL, kind text NOT NULL, group_id text NOT NULL, user_id text NOT NULL,
	seen text NOT NULL, PRIMARY KEY (run, rank, group_id, user_id)) WITHOUT ROWID;
