CREATE TABLE "invoice_lines" (
	"invoice_id" text NOT NULL,
	"line" integer NOT NULL,
	"tenant_id" text NOT NULL,
	"usage_start" timestamp with time zone NOT NULL,
	"is_correction" boolean NOT NULL,
	"model" text NOT NULL,
	"model_id" text,
	"base_model" text NOT NULL,
	"price_id" text,
	"kind" text NOT NULL,
	"quantity" numeric(40, 0) NOT NULL,
	"unit_price_pusd" bigint NOT NULL,
	"exact_pusd" numeric(40, 0) NOT NULL,
	"billed_pusd" numeric(40, 0) NOT NULL,
	CONSTRAINT "invoice_lines_invoice_id_line_pk" PRIMARY KEY("invoice_id","line")
);
--> statement-breakpoint
CREATE TABLE "invoice_numbers" (
	"tenant_id" text PRIMARY KEY NOT NULL,
	"last_number" integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE "invoices" (
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"number" integer,
	"status" text NOT NULL,
	"period_start" timestamp with time zone NOT NULL,
	"period_end" timestamp with time zone NOT NULL,
	"currency" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"finalized_at" timestamp with time zone,
	"billed_pusd" numeric(40, 0),
	"exact_pusd" numeric(40, 0),
	"unbilled_pusd" numeric(40, 0),
	"line_count" integer,
	"requests" numeric(40, 0),
	"unpriced_requests" numeric(40, 0),
	"recovered_requests" numeric(40, 0),
	CONSTRAINT "invoices_tenant_period" UNIQUE("tenant_id","period_start"),
	CONSTRAINT "invoices_tenant_number" UNIQUE("tenant_id","number"),
	CONSTRAINT "invoices_lines_equal_ledger" CHECK (exact_pusd = unbilled_pusd)
);
--> statement-breakpoint
ALTER TABLE "invoice_lines" ADD CONSTRAINT "invoice_lines_invoice_id_invoices_id_fk" FOREIGN KEY ("invoice_id") REFERENCES "public"."invoices"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invoice_numbers" ADD CONSTRAINT "invoice_numbers_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invoices" ADD CONSTRAINT "invoices_tenant_id_tenants_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "public"."tenants"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "usage_events_recovered" ON "usage_events" USING btree ("tenant_id","occurred_at") WHERE source = 'recovered';--> statement-breakpoint
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON "invoice_lines" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();--> statement-breakpoint
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON "invoices" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();--> statement-breakpoint
-- The one change of an invoice is the one that makes a draft final.
CREATE TRIGGER final_for_good BEFORE UPDATE ON "invoices" FOR EACH ROW WHEN (OLD."status" = 'final') EXECUTE FUNCTION refuse_change();
