CREATE TABLE "host_wishes" (
	"host_id" text PRIMARY KEY NOT NULL,
	"wish" text NOT NULL,
	"removed_at" timestamp with time zone,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "replacements" (
	"version_id" text PRIMARY KEY NOT NULL,
	"replaced" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "replacements" ADD CONSTRAINT "replacements_version_id_adapter_versions_id_fk" FOREIGN KEY ("version_id") REFERENCES "public"."adapter_versions"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
-- Until now each deploy replaced the version before it.
INSERT INTO "replacements" ("version_id", "replaced")
SELECT "id", "version" - 1 FROM "adapter_versions" WHERE "version" > 1;
--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "replacements" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
