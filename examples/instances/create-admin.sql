-- Creates the login with which Tenantry administers a PostgreSQL server, version 16 or newer. It is not
-- a superuser, so this works on managed services as well. Run it as the server's superuser, or as the
-- administrator that your provider gave you:
--
--   PASSWORD=$(openssl rand -hex 24)
--   psql -v password="$PASSWORD" -f create-admin.sql "host=... user=postgres dbname=postgres"
--   kubectl -n tenantry-system create secret generic pool-a-admin \
--     --from-literal=username=tenantry --from-literal=password="$PASSWORD"
--
-- Another name than tenantry: add -v admin=NAME. A managed service may refuse the statements after
-- "ON_ERROR_STOP off"; the comments say what is lost without them.

\set ON_ERROR_STOP on

\if :{?admin}
\else
  \set admin tenantry
\endif
\if :{?password}
\else
  DO $$ BEGIN RAISE 'Give the password of the new login: -v password=...'; END $$;
\endif

CREATE ROLE :"admin" LOGIN CREATEDB CREATEROLE PASSWORD :'password';

-- To end a suspended tenant's sessions, and to read sizes and activity.
GRANT pg_signal_backend, pg_read_all_stats TO :"admin";

\set ON_ERROR_STOP off

-- Without it a plan's tempFiles is not enforced.
GRANT SET ON PARAMETER temp_file_limit TO :"admin" WITH GRANT OPTION;

-- Hardening: by default every login of the server may connect to these databases, tenants' logins too.
-- Without it the DatabaseInstance reports Hardened=False; no tenant's data is reachable that way. Do the
-- same with every other database of the server that Tenantry did not make.
-- Grant CONNECT to whatever else uses them before you run this on a server with other users.
GRANT CONNECT ON DATABASE postgres TO :"admin";
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;

\set ON_ERROR_STOP on

-- What came of it. Every line should say t.
SELECT rolcreatedb AS creates_databases,
       rolcreaterole AS creates_roles,
       NOT rolsuper AS no_superuser,
       pg_has_role(rolname, 'pg_signal_backend', 'USAGE') AS ends_sessions,
       pg_has_role(rolname, 'pg_read_all_stats', 'USAGE') AS reads_statistics,
       has_parameter_privilege(rolname, 'temp_file_limit', 'SET WITH GRANT OPTION') AS limits_temp_files,
       NOT EXISTS (
         SELECT FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS acl
         WHERE d.datname IN ('postgres', 'template1') AND acl.grantee = 0
       ) AS hardened
FROM pg_roles WHERE rolname = :'admin'
\x\g
