-- Runs once, on an empty volume: Rollcall's own role, and the database that it owns.
\set password `cat /run/secrets/postgres_rollcall`
CREATE ROLE rollcall LOGIN PASSWORD :'password';
CREATE DATABASE rollcall OWNER rollcall;
REVOKE ALL ON DATABASE rollcall FROM PUBLIC;
