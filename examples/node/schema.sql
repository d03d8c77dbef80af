-- The tables of a Node application, as Prisma names them and Auth.js (NextAuth) uses them: quoted names, ids and "updatedAt" that
-- the client fills in, times without a zone and in UTC.

CREATE TYPE "Role" AS ENUM ('admin', 'billing');

CREATE TABLE "Organization" (
	"id" uuid PRIMARY KEY, "name" text NOT NULL, "workosOrganizationId" text UNIQUE,
	"directoryId" text, -- the directory that manages its people now
	"createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP);

-- An address is one user's, active or not: it is taken from somebody who left.
CREATE TABLE "User" (
	"id" uuid PRIMARY KEY, "organizationId" uuid NOT NULL REFERENCES "Organization" ("id"), "name" text, "email" text UNIQUE,
	"emailVerified" timestamp(3), "image" text, "directoryUserId" text, "disabledAt" timestamp(3), "breakGlass" boolean NOT NULL DEFAULT false,
	"createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" timestamp(3) NOT NULL,
	UNIQUE ("organizationId", "directoryUserId"));

CREATE TABLE "UserRole" (
	"userId" uuid NOT NULL REFERENCES "User" ("id"), "role" "Role" NOT NULL, PRIMARY KEY ("userId", "role"));

-- Auth.js: how somebody signs in, where they are signed in, and links that were mailed.
CREATE TABLE "Account" (
	"id" uuid PRIMARY KEY, "userId" uuid NOT NULL REFERENCES "User" ("id"), "type" text NOT NULL, "provider" text NOT NULL, "providerAccountId" text NOT NULL,
	"refresh_token" text, "access_token" text, "id_token" text, "expires_at" integer, UNIQUE ("provider", "providerAccountId"));
CREATE TABLE "Session" (
	"id" uuid PRIMARY KEY, "sessionToken" text NOT NULL UNIQUE, "userId" uuid NOT NULL REFERENCES "User" ("id"), "expires" timestamp(3) NOT NULL);
CREATE INDEX "Session_userId_idx" ON "Session" ("userId");
CREATE TABLE "VerificationToken" (
	"identifier" text NOT NULL, "token" text NOT NULL UNIQUE, "expires" timestamp(3) NOT NULL, UNIQUE ("identifier", "token"));

-- A team without a "directoryGroupId" was made by hand.
CREATE TABLE "Team" (
	"id" uuid PRIMARY KEY, "organizationId" uuid NOT NULL REFERENCES "Organization" ("id"), "name" text NOT NULL, "directoryGroupId" text UNIQUE,
	"archivedAt" timestamp(3), "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" timestamp(3) NOT NULL);
CREATE TABLE "TeamMember" (
	"teamId" uuid NOT NULL REFERENCES "Team" ("id"), "userId" uuid NOT NULL REFERENCES "User" ("id"), PRIMARY KEY ("teamId", "userId"));

-- What programs use. A service account answers to the user that owns it; a key is a user's or a service account's.
CREATE TABLE "ServiceAccount" (
	"id" uuid PRIMARY KEY, "ownerId" uuid NOT NULL REFERENCES "User" ("id"), "name" text NOT NULL, "disabledAt" timestamp(3));
CREATE TABLE "ApiKey" (
	"id" uuid PRIMARY KEY, "userId" uuid REFERENCES "User" ("id"), "serviceAccountId" uuid REFERENCES "ServiceAccount" ("id"),
	"hashedKey" text NOT NULL UNIQUE, "revokedAt" timestamp(3), "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
	CHECK (num_nonnulls("userId", "serviceAccountId") = 1));
CREATE INDEX "ApiKey_userId_idx" ON "ApiKey" ("userId");
