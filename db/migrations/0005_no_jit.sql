-- Statements here are short and their plans wide (a month each): compiling one takes longer than running
-- it, and happens whenever a table grew faster than its statistics. PGlite has no compiler, and who may
-- not set it goes without.
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'ALTER DATABASE ... SET jit = off is for the database''s owner: recommended';
END
$$;
