-- Two tenants; users from before the directory was connected, so without its ids; somebody who left long ago; a break-glass administrator.
INSERT INTO app_tenants (id, name, workos_organization_id) VALUES ('tenant-1', 'Example', 'org_01EXAMPLE'), ('tenant-2', 'Other', 'org_01OTHER');

INSERT INTO app_users (id, tenant_id, email, name, disabled_at, break_glass) VALUES
	('user-1', 'tenant-1', 'ada@example.com', 'Ada Lovelace', NULL, false),
	('user-2', 'tenant-1', 'grace@example.com', 'Grace Hopper', NULL, false),
	('user-3', 'tenant-1', 'former@example.com', 'Charles Babbage', '2026-02-01T00:00:00Z', false),
	('user-4', 'tenant-1', 'breakglass@example.com', 'Break Glass', NULL, true),
	('user-5', 'tenant-2', 'alan@other.example', 'Alan Turing', NULL, false);

INSERT INTO app_roles (user_id, role) VALUES ('user-1', 'billing'), ('user-4', 'admin');
INSERT INTO app_teams (id, tenant_id, name) VALUES ('team-1', 'tenant-1', 'Founders');
INSERT INTO app_team_members (team_id, user_id) VALUES ('team-1', 'user-1'), ('team-1', 'user-2');

INSERT INTO app_sessions (id, user_id, token_hash, expires_at)
SELECT 'laptop-' || id, id, 'hash of laptop ' || id, '2099-01-01T00:00:00Z' FROM app_users WHERE disabled_at IS NULL;
INSERT INTO app_sessions (id, user_id, token_hash, expires_at)
SELECT 'phone-' || id, id, 'hash of phone ' || id, '2099-01-01T00:00:00Z' FROM app_users WHERE disabled_at IS NULL;

INSERT INTO app_service_accounts (id, owner_id, name) VALUES ('service-1', 'user-1', 'reports'), ('service-2', 'user-2', 'reports');
INSERT INTO app_api_keys (id, owner_id, key_hash) SELECT 'key-' || id, id, 'hash of key ' || id FROM app_users WHERE disabled_at IS NULL;
INSERT INTO app_api_keys (id, service_account_id, key_hash) SELECT 'key-' || id, id, 'hash of key ' || id FROM app_service_accounts;
