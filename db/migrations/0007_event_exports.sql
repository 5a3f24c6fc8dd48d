CREATE TABLE "event_dead_letters" (
	"export_id" text NOT NULL,
	"entry_id" text COLLATE "C" NOT NULL,
	"reason" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "event_dead_letters_export_id_entry_id_pk" PRIMARY KEY("export_id","entry_id")
);
--> statement-breakpoint
CREATE TABLE "event_exports" (
	"id" text PRIMARY KEY NOT NULL,
	"ingest_xid" bigint DEFAULT 0 NOT NULL,
	"entry_id" text COLLATE "C" DEFAULT '' NOT NULL,
	"claimed_by" text,
	"claimed_until" timestamp with time zone,
	"failures" integer DEFAULT 0 NOT NULL,
	"retry_at" timestamp with time zone
);
--> statement-breakpoint
CREATE INDEX "event_dead_letters_created" ON "event_dead_letters" USING btree ("export_id","created_at");