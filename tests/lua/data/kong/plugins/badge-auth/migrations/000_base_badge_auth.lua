return {
  postgres = {
    up = [[
      CREATE TABLE IF NOT EXISTS "badges" (
        "id"          UUID                         PRIMARY KEY,
        "created_at"  TIMESTAMP WITHOUT TIME ZONE  DEFAULT (CURRENT_TIMESTAMP(0) AT TIME ZONE 'UTC'),
        "consumer_id" UUID                         REFERENCES "consumers" ("id") ON DELETE CASCADE,
        "code"        TEXT                         UNIQUE,
        "level"       INTEGER,
        "ttl"         TIMESTAMP WITH TIME ZONE
      );

      DO $$
      BEGIN
        CREATE INDEX IF NOT EXISTS "badges_consumer_id_idx" ON "badges" ("consumer_id");
      EXCEPTION WHEN UNDEFINED_COLUMN THEN
        -- Do nothing, accept existing state
      END$$;
    ]],
  },
}
