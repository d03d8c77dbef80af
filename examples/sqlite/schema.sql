-- The tables of a small service in an SQLite file. Ids are texts, and so are times, in UTC.

CREATE TABLE app_tenants (
	id text PRIMARY KEY, name text NOT NULL, workos_organization_id text UNIQUE,
	directory_id text); -- the directory that manages its people now

-- Whom a directory knows is named by the directory's id and its own id of them.
CREATE TABLE app_users (
	id text PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))), tenant_id text NOT NULL REFERENCES app_tenants (id), email text NOT NULL, name text NOT NULL DEFAULT '',
	directory_id text, external_id text, disabled_at text, break_glass integer NOT NULL DEFAULT 0, created_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
	UNIQUE (directory_id, external_id));
-- One active user an address. Somebody who left keeps theirs, and stands in nobody's way.
CREATE UNIQUE INDEX app_users_active_email ON app_users (tenant_id, lower(email)) WHERE disabled_at IS NULL;

CREATE TABLE app_roles (
	user_id text NOT NULL REFERENCES app_users (id), role text NOT NULL CHECK (role IN ('admin', 'billing')), PRIMARY KEY (user_id, role));

CREATE TABLE app_sessions (
	id text PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))), user_id text NOT NULL REFERENCES app_users (id), token_hash text NOT NULL UNIQUE, expires_at text NOT NULL);
CREATE INDEX app_sessions_user ON app_sessions (user_id);

-- A team without a group_id was made by hand.
CREATE TABLE app_teams (
	id text PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))), tenant_id text NOT NULL REFERENCES app_tenants (id), name text NOT NULL,
	directory_id text, group_id text, archived_at text, UNIQUE (directory_id, group_id));
CREATE TABLE app_team_members (
	team_id text NOT NULL REFERENCES app_teams (id), user_id text NOT NULL REFERENCES app_users (id), PRIMARY KEY (team_id, user_id));

-- What programs use. A service account answers to the user that owns it; a key is a user's or a service account's.
CREATE TABLE app_service_accounts (
	id text PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))), owner_id text NOT NULL REFERENCES app_users (id), name text NOT NULL, disabled_at text);
CREATE TABLE app_api_keys (
	id text PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))), owner_id text REFERENCES app_users (id), service_account_id text REFERENCES app_service_accounts (id),
	key_hash text NOT NULL UNIQUE, revoked_at text, CHECK ((owner_id IS NULL) <> (service_account_id IS NULL)));
CREATE INDEX app_api_keys_owner ON app_api_keys (owner_id);
