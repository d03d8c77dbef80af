-- The tables of a Go service, as it gives them to sqlc. Ids are texts.

CREATE TABLE app_tenants (
	id text PRIMARY KEY, name text NOT NULL, workos_organization_id text UNIQUE,
	directory_id text); -- the directory that manages its people now

-- Whom a directory knows is named by the directory's id and its own id of them.
CREATE TABLE app_users (
	id text PRIMARY KEY DEFAULT gen_random_uuid()::text, tenant_id text NOT NULL REFERENCES app_tenants, email text NOT NULL, name text NOT NULL DEFAULT '',
	directory_id text, external_id text, disabled_at timestamptz, break_glass boolean NOT NULL DEFAULT false, created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (directory_id, external_id));
-- One active user an address. Somebody who left keeps theirs, and stands in nobody's way.
CREATE UNIQUE INDEX app_users_active_email ON app_users (tenant_id, lower(email)) WHERE disabled_at IS NULL;

CREATE TABLE app_roles (
	user_id text NOT NULL REFERENCES app_users, role text NOT NULL CHECK (role IN ('admin', 'billing')), PRIMARY KEY (user_id, role));

CREATE TABLE app_sessions (
	id text PRIMARY KEY DEFAULT gen_random_uuid()::text, user_id text NOT NULL REFERENCES app_users, token_hash text NOT NULL UNIQUE, expires_at timestamptz NOT NULL);
CREATE INDEX app_sessions_user ON app_sessions (user_id);

-- A team without a group_id was made by hand.
CREATE TABLE app_teams (
	id text PRIMARY KEY DEFAULT gen_random_uuid()::text, tenant_id text NOT NULL REFERENCES app_tenants, name text NOT NULL,
	directory_id text, group_id text, archived_at timestamptz, UNIQUE (directory_id, group_id));
CREATE TABLE app_team_members (
	team_id text NOT NULL REFERENCES app_teams, user_id text NOT NULL REFERENCES app_users, PRIMARY KEY (team_id, user_id));

-- What programs use. A service account answers to the user that owns it; a key is a user's or a service account's.
CREATE TABLE app_service_accounts (
	id text PRIMARY KEY DEFAULT gen_random_uuid()::text, owner_id text NOT NULL REFERENCES app_users, name text NOT NULL, disabled_at timestamptz);
CREATE TABLE app_api_keys (
	id text PRIMARY KEY DEFAULT gen_random_uuid()::text, owner_id text REFERENCES app_users, service_account_id text REFERENCES app_service_accounts,
	key_hash text NOT NULL UNIQUE, revoked_at timestamptz, CHECK ((owner_id IS NULL) <> (service_account_id IS NULL)));
CREATE INDEX app_api_keys_owner ON app_api_keys (owner_id);
