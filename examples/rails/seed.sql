-- Two organizations; users from before the directory was connected, so without its ids; somebody who left long ago; a break-glass
-- administrator.
INSERT INTO organizations (name, workos_organization_id, created_at, updated_at) VALUES
	('Example', 'org_01EXAMPLE', '2026-01-05', '2026-01-05'),
	('Other', 'org_01OTHER', '2026-01-05', '2026-01-05');

INSERT INTO users (organization_id, email, encrypted_password, first_name, last_name, confirmed_at, deactivated_at, break_glass, created_at, updated_at) VALUES
	(1, 'ada@example.com', 'not a digest', 'Ada', 'Lovelace', '2026-01-05', NULL, false, '2026-01-05', '2026-01-05'),
	(1, 'grace@example.com', 'not a digest', 'Grace', 'Hopper', '2026-01-05', NULL, false, '2026-01-05', '2026-01-05'),
	(1, 'former@example.com', 'not a digest', 'Charles', 'Babbage', '2026-01-05', '2026-02-01', false, '2026-01-05', '2026-02-01'),
	(1, 'breakglass@example.com', 'not a digest', 'Break', 'Glass', '2026-01-05', NULL, true, '2026-01-05', '2026-01-05'),
	(2, 'alan@other.example', 'not a digest', 'Alan', 'Turing', '2026-01-05', NULL, false, '2026-01-05', '2026-01-05');

INSERT INTO roles (name) VALUES ('admin'), ('billing');
INSERT INTO role_assignments (user_id, role_id, created_at)
SELECT u.id, r.id, '2026-01-05' FROM users u JOIN roles r ON (u.email, r.name) IN (('ada@example.com', 'billing'), ('breakglass@example.com', 'admin'));

INSERT INTO teams (organization_id, name, created_at, updated_at) SELECT id, 'Founders', '2026-01-05', '2026-01-05' FROM organizations WHERE name = 'Example';
INSERT INTO memberships (user_id, team_id, created_at)
SELECT u.id, t.id, '2026-01-05' FROM users u, teams t WHERE u.email IN ('ada@example.com', 'grace@example.com') AND t.name = 'Founders';

INSERT INTO sessions (user_id, ip_address, user_agent, created_at, updated_at)
SELECT id, '192.0.2.1', agent, '2026-03-01', '2026-03-01' FROM users, (VALUES ('laptop'), ('phone')) a (agent) WHERE deactivated_at IS NULL;

-- Grace's service account has the number that Ada has, and the other way round.
INSERT INTO service_accounts (owner_id, name, created_at) VALUES (2, 'reports', '2026-01-05'), (1, 'reports', '2026-01-05');
INSERT INTO api_tokens (bearer_type, bearer_id, token_digest, created_at)
SELECT 'User', id, 'digest of ' || email, '2026-01-05' FROM users WHERE deactivated_at IS NULL;
INSERT INTO api_tokens (bearer_type, bearer_id, token_digest, created_at)
SELECT 'ServiceAccount', id, 'digest of service ' || id, '2026-01-05' FROM service_accounts;
INSERT INTO oauth_access_tokens (resource_owner_id, token, refresh_token, created_at)
SELECT id, 'token of ' || email, 'refresh token of ' || email, '2026-01-05' FROM users WHERE email IN ('ada@example.com', 'grace@example.com');
