CREATE TABLE "idempotency_keys" (
	"tenant_id" text NOT NULL,
	"key_id" text NOT NULL,
	"idempotency_key" text NOT NULL,
	"body_hash" text NOT NULL,
	"request_id" text NOT NULL,
	"tries" integer DEFAULT 1 NOT NULL,
	"state" text NOT NULL,
	"locked_until" timestamp with time zone NOT NULL,
	"reply_body" text,
	"reply_type" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_tenant_id_key_id_idempotency_key_pk" PRIMARY KEY("tenant_id","key_id","idempotency_key")
);
--> statement-breakpoint
CREATE TABLE "limit_portions" (
	"scope_id" text NOT NULL,
	"kind" text NOT NULL,
	"edge_id" text NOT NULL,
	"slice" bigint NOT NULL,
	"units" bigint NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "limit_portions_scope_id_kind_edge_id_slice_pk" PRIMARY KEY("scope_id","kind","edge_id","slice")
);
--> statement-breakpoint
CREATE TABLE "limits" (
	"scope_id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"requests_per_minute" bigint,
	"tokens_per_minute" bigint,
	"concurrency" bigint,
	"monthly_spend_pusd" numeric(40, 0),
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "spend_leases" (
	"id" text PRIMARY KEY NOT NULL,
	"scope_id" text NOT NULL,
	"month" text NOT NULL,
	"amount_pusd" numeric(40, 0) NOT NULL,
	"posted_pusd" numeric(40, 0) DEFAULT 0 NOT NULL,
	"is_returned" boolean DEFAULT false NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"closed_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "limits" ADD CONSTRAINT "limits_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idempotency_keys_expires" ON "idempotency_keys" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "limits_tenant" ON "limits" USING btree ("tenant_id");--> statement-breakpoint
CREATE INDEX "spend_leases_open" ON "spend_leases" USING btree ("scope_id","month") WHERE closed_at is null;