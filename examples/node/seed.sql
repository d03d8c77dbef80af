-- Two organizations; users from before the directory was connected, so without its ids; somebody who left long ago, with the address
-- that another may have next; a break-glass administrator.
INSERT INTO "Organization" ("id", "name", "workosOrganizationId") VALUES
	('0b6a6c0e-0000-4000-8000-000000000001', 'Example', 'org_01EXAMPLE'),
	('0b6a6c0e-0000-4000-8000-000000000002', 'Other', 'org_01OTHER');

INSERT INTO "User" ("id", "organizationId", "name", "email", "disabledAt", "breakGlass", "updatedAt") VALUES
	('5e1f0000-0000-4000-8000-000000000001', '0b6a6c0e-0000-4000-8000-000000000001', 'Ada Lovelace', 'ada@example.com', NULL, false, '2026-01-05'),
	('5e1f0000-0000-4000-8000-000000000002', '0b6a6c0e-0000-4000-8000-000000000001', 'Grace Hopper', 'grace@example.com', NULL, false, '2026-01-05'),
	('5e1f0000-0000-4000-8000-000000000003', '0b6a6c0e-0000-4000-8000-000000000001', 'Charles Babbage', NULL, '2026-02-01', false, '2026-02-01'),
	('5e1f0000-0000-4000-8000-000000000004', '0b6a6c0e-0000-4000-8000-000000000001', 'Break Glass', 'breakglass@example.com', NULL, true, '2026-01-05'),
	('5e1f0000-0000-4000-8000-000000000005', '0b6a6c0e-0000-4000-8000-000000000002', 'Alan Turing', 'alan@other.example', NULL, false, '2026-01-05');

INSERT INTO "UserRole" ("userId", "role")
SELECT "id", 'billing'::"Role" FROM "User" WHERE "email" = 'ada@example.com'
UNION ALL SELECT "id", 'admin' FROM "User" WHERE "breakGlass";

INSERT INTO "Account" ("id", "userId", "type", "provider", "providerAccountId", "refresh_token", "access_token")
SELECT gen_random_uuid(), "id", 'oauth', 'google', 'google of ' || "email", 'refresh token of ' || "email", 'token of ' || "email"
FROM "User" WHERE "disabledAt" IS NULL AND NOT "breakGlass";
INSERT INTO "Session" ("id", "sessionToken", "userId", "expires")
SELECT gen_random_uuid(), device || ' of ' || "email", "id", '2099-01-01' FROM "User", (VALUES ('laptop'), ('phone')) d (device) WHERE "disabledAt" IS NULL;
INSERT INTO "VerificationToken" ("identifier", "token", "expires") VALUES ('ada@example.com', 'mailed to ada', '2099-01-01'), ('grace@example.com', 'mailed to grace', '2099-01-01');

INSERT INTO "Team" ("id", "organizationId", "name", "updatedAt") VALUES
	('7ea30000-0000-4000-8000-000000000001', '0b6a6c0e-0000-4000-8000-000000000001', 'Founders', '2026-01-05');
INSERT INTO "TeamMember" ("teamId", "userId") SELECT '7ea30000-0000-4000-8000-000000000001', "id" FROM "User" WHERE "email" IN ('ada@example.com', 'grace@example.com');

INSERT INTO "ServiceAccount" ("id", "ownerId", "name") SELECT gen_random_uuid(), "id", 'reports' FROM "User" WHERE "email" IN ('ada@example.com', 'grace@example.com');
INSERT INTO "ApiKey" ("id", "userId", "hashedKey") SELECT gen_random_uuid(), "id", 'hash of ' || "email" FROM "User" WHERE "disabledAt" IS NULL;
INSERT INTO "ApiKey" ("id", "serviceAccountId", "hashedKey") SELECT gen_random_uuid(), "id", 'hash of service ' || "id" FROM "ServiceAccount";
