-- The tables of a Rails application, as far as directories matter to it: Devise's users, Rails' own sessions, teams, roles, tokens.
-- Times are without a zone and in UTC, as Rails writes them.

CREATE TABLE organizations (
	id bigserial PRIMARY KEY, name varchar NOT NULL, workos_organization_id varchar UNIQUE,
	directory_id varchar, -- the directory that manages its people now
	created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);

-- deactivated_at is the directory's; locked_at is Devise's, which unlocks by time or by mail.
CREATE TABLE users (
	id bigserial PRIMARY KEY, organization_id bigint NOT NULL REFERENCES organizations, email varchar NOT NULL,
	encrypted_password varchar NOT NULL DEFAULT '', first_name varchar, last_name varchar,
	reset_password_token varchar UNIQUE, reset_password_sent_at timestamp(6), remember_created_at timestamp(6), confirmed_at timestamp(6),
	locked_at timestamp(6), deactivated_at timestamp(6), directory_user_id varchar, break_glass boolean NOT NULL DEFAULT false,
	created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
-- One active user an address. Somebody who left keeps theirs, and stands in nobody's way.
CREATE UNIQUE INDEX index_users_on_active_email ON users (lower(email)) WHERE deactivated_at IS NULL;
CREATE UNIQUE INDEX index_users_on_directory_user_id ON users (organization_id, directory_user_id);

CREATE TABLE roles (id bigserial PRIMARY KEY, name varchar NOT NULL UNIQUE);
CREATE TABLE role_assignments (
	id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, role_id bigint NOT NULL REFERENCES roles, created_at timestamp(6) NOT NULL,
	UNIQUE (user_id, role_id));

-- A team without a directory_group_id was made by hand. Names may repeat: a directory's groups are told apart by id.
CREATE TABLE teams (
	id bigserial PRIMARY KEY, organization_id bigint NOT NULL REFERENCES organizations, name varchar NOT NULL,
	directory_group_id varchar UNIQUE, archived_at timestamp(6), created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE TABLE memberships (
	id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, team_id bigint NOT NULL REFERENCES teams, created_at timestamp(6) NOT NULL,
	UNIQUE (user_id, team_id));

CREATE TABLE sessions (
	id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, ip_address varchar, user_agent varchar,
	created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE INDEX index_sessions_on_user_id ON sessions (user_id);

-- What programs use. A service account answers to the user that owns it; a token's bearer is a User or a ServiceAccount.
CREATE TABLE service_accounts (
	id bigserial PRIMARY KEY, owner_id bigint NOT NULL REFERENCES users, name varchar NOT NULL, disabled_at timestamp(6), created_at timestamp(6) NOT NULL);
CREATE INDEX index_service_accounts_on_owner_id ON service_accounts (owner_id);
CREATE TABLE api_tokens (
	id bigserial PRIMARY KEY, bearer_type varchar NOT NULL, bearer_id bigint NOT NULL, token_digest varchar NOT NULL UNIQUE,
	revoked_at timestamp(6), created_at timestamp(6) NOT NULL);
CREATE INDEX index_api_tokens_on_bearer ON api_tokens (bearer_type, bearer_id);
CREATE TABLE oauth_access_tokens (
	id bigserial PRIMARY KEY, resource_owner_id bigint REFERENCES users, token varchar NOT NULL UNIQUE, refresh_token varchar UNIQUE,
	revoked_at timestamp(6), created_at timestamp(6) NOT NULL);
CREATE INDEX index_oauth_access_tokens_on_resource_owner_id ON oauth_access_tokens (resource_owner_id);
