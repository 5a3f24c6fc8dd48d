CREATE TABLE "rollup_state" (
	"id" integer PRIMARY KEY NOT NULL,
	"watermark" bigint NOT NULL,
	"xid_offset" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "usage_rollups" (
	"tenant_id" text NOT NULL,
	"hour" timestamp with time zone NOT NULL,
	"model" text NOT NULL,
	"model_id" text,
	"adapter_version_id" text,
	"key_id" text,
	"base_model" text NOT NULL,
	"price_id" text,
	"price_basis" text NOT NULL,
	"requests" numeric(40, 0) NOT NULL,
	"prompt_tokens" numeric(40, 0) NOT NULL,
	"cached_prompt_tokens" numeric(40, 0) NOT NULL,
	"completion_tokens" numeric(40, 0) NOT NULL,
	"gpu_us" numeric(40, 0) NOT NULL,
	"swap_us" numeric(40, 0) NOT NULL,
	"amount_pusd" numeric(40, 0) NOT NULL,
	"invoiced_requests" numeric(40, 0) DEFAULT 0 NOT NULL,
	"invoiced_prompt_tokens" numeric(40, 0) DEFAULT 0 NOT NULL,
	"invoiced_cached_prompt_tokens" numeric(40, 0) DEFAULT 0 NOT NULL,
	"invoiced_completion_tokens" numeric(40, 0) DEFAULT 0 NOT NULL,
	"invoiced_gpu_us" numeric(40, 0) DEFAULT 0 NOT NULL,
	"invoiced_swap_us" numeric(40, 0) DEFAULT 0 NOT NULL,
	"invoiced_amount_pusd" numeric(40, 0) DEFAULT 0 NOT NULL,
	CONSTRAINT "usage_rollups_key" UNIQUE NULLS NOT DISTINCT("tenant_id","hour","model","model_id","adapter_version_id","key_id","base_model","price_id","price_basis")
);
--> statement-breakpoint
INSERT INTO "rollup_state" ("id", "watermark", "xid_offset") VALUES (1, 0, 0);
--> statement-breakpoint
-- The number of this transaction in the ledger's own count. Refuses to count backwards: entries below
-- the watermark would never be rolled up.
CREATE FUNCTION ledger_xid() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  xid bigint;
  low bigint;
BEGIN
  SELECT pg_current_xact_id()::text::bigint + xid_offset, watermark INTO STRICT xid, low
    FROM rollup_state;
  IF xid < low THEN
    RAISE EXCEPTION 'transactions count from the start again, as after a restore from a dump'
      USING ERRCODE = 'object_not_in_prerequisite_state',
        HINT = 'the next roll-up sets the ledger''s count right; try again';
  END IF;
  RETURN xid;
END
$$;
--> statement-breakpoint
-- The first ten characters after the prefix of an id made at that time; timeSigns of ids.ts.
CREATE FUNCTION id_time_signs(at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', ((ms >> (5 * digit)) & 31)::integer + 1, 1),
    '' ORDER BY digit DESC)
  FROM (SELECT floor(extract(epoch FROM at) * 1000)::bigint AS ms) AS instant,
    generate_series(0, 9) AS digit
$$;
--> statement-breakpoint
-- Tables partitioned by month cannot be altered into being; the rows move over. The names of what
-- they leave behind must be free.
ALTER TABLE "ledger_entries" RENAME TO "ledger_entries_unpartitioned";--> statement-breakpoint
ALTER TABLE "ledger_entries_unpartitioned" RENAME CONSTRAINT "ledger_entries_pkey" TO "ledger_entries_unpartitioned_pkey";--> statement-breakpoint
ALTER INDEX "ledger_entries_tenant_occurred" RENAME TO "ledger_entries_unpartitioned_tenant";--> statement-breakpoint
ALTER TABLE "usage_events" RENAME TO "usage_events_unpartitioned";--> statement-breakpoint
ALTER TABLE "usage_events_unpartitioned" RENAME CONSTRAINT "usage_events_pkey" TO "usage_events_unpartitioned_pkey";--> statement-breakpoint
CREATE TABLE "usage_events" (
	"request_id" text COLLATE "C" NOT NULL,
	"attempt" smallint NOT NULL,
	"tenant_id" text NOT NULL,
	"key_id" text,
	"model" text NOT NULL,
	"model_id" text,
	"adapter_version_id" text,
	"adapter_digest" text,
	"adapter_bytes" bigint NOT NULL,
	"base_model" text NOT NULL,
	"price_version_id" text,
	"lease_ids" text[] NOT NULL,
	"host_id" text NOT NULL,
	"epoch" bigint NOT NULL,
	"prompt_tokens" bigint NOT NULL,
	"cached_prompt_tokens" bigint NOT NULL,
	"completion_tokens" bigint NOT NULL,
	"finish_reason" text NOT NULL,
	"gpu_us" bigint NOT NULL,
	"queue_us" bigint NOT NULL,
	"ttft_us" bigint,
	"swap_us" bigint NOT NULL,
	"adapter_source" text NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone NOT NULL,
	"occurred_at" timestamp with time zone NOT NULL,
	"source" text NOT NULL,
	"received_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "usage_events_request_id_attempt_pk" PRIMARY KEY("request_id","attempt")
) PARTITION BY RANGE ("request_id");
--> statement-breakpoint
CREATE TABLE "usage_events_default" PARTITION OF "usage_events" DEFAULT;
--> statement-breakpoint
CREATE TABLE "ledger_entries" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"debit_account" text NOT NULL,
	"credit_account" text NOT NULL,
	"amount_pusd" numeric(40, 0) NOT NULL,
	"tenant_id" text NOT NULL,
	"request_id" text COLLATE "C",
	"attempt" smallint,
	"price_id" text,
	"price_basis" text,
	"occurred_at" timestamp with time zone NOT NULL,
	"ingest_xid" bigint DEFAULT ledger_xid() NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "ledger_entries_amount" CHECK (amount_pusd >= 0)
) PARTITION BY RANGE ("id");
--> statement-breakpoint
CREATE TABLE "ledger_entries_default" PARTITION OF "ledger_entries" DEFAULT;
--> statement-breakpoint
-- Makes the partitions of one of the two tables from the month before `at` to `ahead` months after it;
-- returns how many. One table a call, so that two locks are never held at once. A month that has
-- rows in the default partition already stays there: they would have to move.
CREATE FUNCTION ensure_ledger_months(parent text, at timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
  id_column text := CASE parent WHEN 'usage_events' THEN 'request_id' WHEN 'ledger_entries' THEN 'id' END;
  first timestamp;
  partition text;
  low text;
  high text;
  occupied boolean;
  made integer := 0;
BEGIN
  IF id_column IS NULL THEN
    RAISE EXCEPTION '% has no months', parent USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('ensure_ledger_months'));
  FOR month IN -1..ahead LOOP
    first := date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => month);
    partition := parent || to_char(first, '"_"YYYY_MM');
    CONTINUE WHEN to_regclass(quote_ident(partition)) IS NOT NULL;
    low := 'req_' || id_time_signs(first AT TIME ZONE 'UTC');
    high := 'req_' || id_time_signs((first + interval '1 month') AT TIME ZONE 'UTC');
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %I >= $1 AND %I < $2)',
      parent || '_default', id_column, id_column) INTO occupied USING low, high;
    CONTINUE WHEN occupied;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
      partition, parent, low, high);
    -- A trigger of the parent alone would not see a statement that names the partition.
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
      'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', partition);
    made := made + 1;
  END LOOP;
  RETURN made;
END
$$;
--> statement-breakpoint
SELECT ensure_ledger_months('usage_events', now(), 3);--> statement-breakpoint
SELECT ensure_ledger_months('ledger_entries', now(), 3);--> statement-breakpoint
INSERT INTO "usage_events" ("request_id", "attempt", "tenant_id", "key_id", "model", "model_id",
  "adapter_version_id", "adapter_digest", "adapter_bytes", "base_model", "price_version_id", "lease_ids",
  "host_id", "epoch", "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "finish_reason",
  "gpu_us", "queue_us", "ttft_us", "swap_us", "adapter_source", "started_at", "ended_at", "occurred_at",
  "source", "received_at")
SELECT event."request_id", 1, event."tenant_id", "key_id", "model", "model_id",
  "adapter_version_id", "adapter_digest", 0, "base_model", "price_version_id", '{}',
  "host_id", "epoch", "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "finish_reason",
  "gpu_us", "queue_us", "ttft_us", "swap_us", "adapter_source", "started_at", "ended_at",
  entry."occurred_at", "source", "received_at"
FROM "usage_events_unpartitioned" AS event
JOIN "ledger_entries_unpartitioned" AS entry ON entry."request_id" = event."request_id";
--> statement-breakpoint
INSERT INTO "ledger_entries" ("id", "kind", "debit_account", "credit_account", "amount_pusd", "tenant_id",
  "request_id", "attempt", "price_id", "price_basis", "occurred_at", "ingest_xid", "created_at")
SELECT event."request_id" || '/1/usage', 'usage', 'unbilled/' || entry."tenant_id",
  'revenue/' || event."base_model", "amount_pusd", entry."tenant_id", event."request_id", 1, "price_id",
  "price_basis", entry."occurred_at", (SELECT ledger_xid()), "created_at"
FROM "usage_events_unpartitioned" AS event
JOIN "ledger_entries_unpartitioned" AS entry ON entry."request_id" = event."request_id";
--> statement-breakpoint
DROP TABLE "ledger_entries_unpartitioned";--> statement-breakpoint
DROP TABLE "usage_events_unpartitioned";--> statement-breakpoint
CREATE INDEX "usage_events_tenant_occurred" ON "usage_events" USING btree ("tenant_id","occurred_at","request_id","attempt");--> statement-breakpoint
CREATE INDEX "usage_events_later_attempts" ON "usage_events" USING btree ("request_id","attempt") WHERE attempt > 1;--> statement-breakpoint
CREATE INDEX "ledger_entries_ingest" ON "ledger_entries" USING btree ("ingest_xid");--> statement-breakpoint
CREATE INDEX "ledger_entries_tenant_occurred" ON "ledger_entries" USING btree ("tenant_id","occurred_at");--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "usage_events" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "usage_events_default" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "ledger_entries" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "ledger_entries_default" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
