-- Comparisons of directories with their own listings, and what came of them. The row that has not ended is the run's hold on its
-- directory, until its lease is over.
CREATE TABLE rollcall.reconcile_runs (
	id text COLLATE "C" NOT NULL PRIMARY KEY, source text COLLATE "C" NOT NULL, directory text COLLATE "C" NOT NULL, trigger text COLLATE "C" NOT NULL,
	begun timestamptz NOT NULL, lease timestamptz NOT NULL, ended timestamptz, complete boolean NOT NULL, reason text COLLATE "C" NOT NULL, skew_us bigint NOT NULL, fence timestamptz,
	users bigint NOT NULL, groups bigint NOT NULL, memberships bigint NOT NULL, active bigint NOT NULL, kinds jsonb, digest text COLLATE "C" NOT NULL);
CREATE UNIQUE INDEX reconcile_runs_open ON rollcall.reconcile_runs (source, directory) WHERE ended IS NULL;
CREATE INDEX reconcile_runs_newest ON rollcall.reconcile_runs (source, directory, begun);

-- What a run was told, and where it differs from the registers. All of it goes when the run ends; a crash of the server costs no
-- more than the run, so none of it is logged.
CREATE UNLOGGED TABLE rollcall.reconcile_users (
	run text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL, active boolean NOT NULL, state text COLLATE "C" NOT NULL,
	email text COLLATE "C" NOT NULL, first_name text COLLATE "C" NOT NULL, last_name text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, attributes jsonb,
	idp_id text COLLATE "C" NOT NULL, created timestamptz, updated timestamptz, PRIMARY KEY (run, user_id));
CREATE UNLOGGED TABLE rollcall.reconcile_groups (
	run text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, organization text COLLATE "C" NOT NULL, idp_id text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL,
	updated timestamptz, PRIMARY KEY (run, group_id));
CREATE UNLOGGED TABLE rollcall.reconcile_memberships (
	run text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, PRIMARY KEY (run, group_id, user_id));
CREATE UNLOGGED TABLE rollcall.reconcile_drift (
	run text COLLATE "C" NOT NULL, rank int NOT NULL, kind text COLLATE "C" NOT NULL, group_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL,
	seen text COLLATE "C" NOT NULL, PRIMARY KEY (run, rank, group_id, user_id));
