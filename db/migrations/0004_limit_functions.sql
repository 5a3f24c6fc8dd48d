-- Portions are worth nothing after a crash of the database, so they need no write-ahead log.
ALTER TABLE "limit_portions" SET UNLOGGED;
--> statement-breakpoint
-- What a tenant, or one key of it, was charged for a month so far: the roll-ups and, of what came
-- in after them, the entries themselves. STABLE, so that it sees what the statement around it sees.
CREATE FUNCTION scope_charges(p_scope text, p_tenant text, p_start timestamptz, p_end timestamptz)
RETURNS numeric LANGUAGE sql STABLE AS $$
  SELECT coalesce((
    SELECT sum(amount_pusd) FROM usage_rollups
    WHERE tenant_id = p_tenant AND hour >= p_start AND hour < p_end
      AND (p_scope = p_tenant OR key_id = p_scope)
  ), 0) + coalesce((
    SELECT sum(CASE kind WHEN 'usage' THEN amount_pusd ELSE -amount_pusd END) FROM ledger_entries
    WHERE ingest_xid >= (SELECT watermark FROM rollup_state)
      AND tenant_id = p_tenant AND kind IN ('usage', 'usage_reversal')
      AND occurred_at >= p_start AND occurred_at < p_end
      AND (p_scope = p_tenant OR EXISTS (
        SELECT FROM usage_events event
        WHERE event.request_id = ledger_entries.request_id
          AND event.attempt = ledger_entries.attempt AND event.key_id = p_scope))
  ), 0)
$$;
--> statement-breakpoint
-- A part of a rate or of the requests at once. A portion of a rate is for the slice of 5 seconds
-- that it is granted in, and counts for 60 seconds after the slice's end: whichever 60 seconds one
-- looks at, all that was admitted in them counted when the last of it was granted.
CREATE FUNCTION take_units(p_edge text, p_ask jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_scope text := p_ask->>'scope_id';
  v_kind text := p_ask->>'kind';
  v_min bigint := (p_ask->>'min')::bigint;
  v_want bigint := (p_ask->>'want')::bigint;
  v_now timestamptz := clock_timestamp();
  v_slice bigint := CASE WHEN v_kind = 'concurrency' THEN 0
    ELSE floor(extract(epoch FROM v_now) / 5) END;
  v_slice_end timestamptz := to_timestamp((v_slice + 1) * 5);
  v_expires timestamptz := CASE WHEN v_kind = 'concurrency' THEN v_now + interval '60 seconds'
    ELSE v_slice_end + interval '60 seconds' END;
  v_limit bigint;
  v_free bigint;
  v_granted bigint := 0;
  v_retry timestamptz;
BEGIN
  UPDATE limit_portions AS portion SET units = greatest(portion.units - refund.units, 0)
  FROM jsonb_to_recordset(p_ask->'refunds') AS refund(slice bigint, units bigint)
  WHERE portion.scope_id = v_scope AND portion.kind = v_kind AND portion.edge_id = p_edge
    AND portion.slice = refund.slice;
  DELETE FROM limit_portions WHERE scope_id = v_scope AND kind = v_kind
    AND (expires_at <= v_now OR units = 0);
  IF v_kind = 'concurrency' THEN
    -- What the edge says that it holds counts, also after the row expired in an outage.
    DELETE FROM limit_portions
    WHERE scope_id = v_scope AND kind = v_kind AND edge_id = p_edge;
    INSERT INTO limit_portions SELECT v_scope, v_kind, p_edge, v_slice, held, v_expires
    FROM (SELECT (p_ask->>'held')::bigint AS held) AS ask WHERE held > 0;
  END IF;
  SELECT CASE v_kind WHEN 'requests' THEN requests_per_minute WHEN 'tokens' THEN tokens_per_minute
    ELSE concurrency END INTO v_limit FROM limits WHERE scope_id = v_scope;
  SELECT v_limit - coalesce(sum(units), 0) INTO v_free
  FROM limit_portions WHERE scope_id = v_scope AND kind = v_kind;
  IF v_limit IS NULL THEN
    v_granted := v_want;
  ELSIF v_free >= v_min THEN
    v_granted := least(v_want, v_free);
  ELSE
    SELECT min(expires_at) INTO v_retry FROM (
      SELECT expires_at, sum(units) OVER (ORDER BY expires_at, edge_id) AS freed
      FROM limit_portions WHERE scope_id = v_scope AND kind = v_kind
    ) AS leaving WHERE v_free + freed >= v_min;
  END IF;
  IF v_granted > 0 THEN
    INSERT INTO limit_portions AS held (scope_id, kind, edge_id, slice, units, expires_at)
    VALUES (v_scope, v_kind, p_edge, v_slice, v_granted, v_expires)
    ON CONFLICT (scope_id, kind, edge_id, slice) DO UPDATE SET units = held.units + excluded.units;
  END IF;
  RETURN jsonb_build_object('granted', v_granted::text, 'limit', v_limit::text,
    'free', (v_free - v_granted)::text, 'slice', v_slice,
    'valid_ms', CASE WHEN v_kind = 'concurrency' THEN 60000
      ELSE extract(epoch FROM v_slice_end - v_now) * 1000 END,
    'retry_ms', extract(epoch FROM v_retry - v_now) * 1000, 'is_exhausted', false);
END
$$;
--> statement-breakpoint
-- A part of a month's budget. What the edge reports of its other leases counts first.
CREATE FUNCTION take_spend(p_ask jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_scope text := p_ask->>'scope_id';
  v_month text := p_ask->>'month';
  v_min numeric := (p_ask->>'min')::numeric;
  v_want numeric := (p_ask->>'want')::numeric;
  v_now timestamptz := clock_timestamp();
  v_expires timestamptz := v_now + interval '15 minutes';
  v_start timestamptz := (v_month || '-01T00:00:00Z')::timestamptz;
  v_report record;
  v_tenant text;
  v_cap numeric;
  v_charged numeric;
  v_held numeric;
  v_owed numeric;
  v_free numeric;
  v_granted numeric := 0;
BEGIN
  -- By scope and id, as recordUsageEvents locks them too.
  FOR v_report IN
    SELECT * FROM jsonb_to_recordset(p_ask->'reports') AS report(
      id text, amount numeric, is_returned boolean) ORDER BY id
  LOOP
    UPDATE spend_leases SET amount_pusd = least(amount_pusd, v_report.amount),
      is_returned = v_report.is_returned, expires_at = v_expires
    WHERE id = v_report.id AND scope_id = v_scope AND closed_at IS NULL;
  END LOOP;
  SELECT tenant_id, monthly_spend_pusd INTO v_tenant, v_cap FROM limits WHERE scope_id = v_scope;
  -- One statement, so that a charge shows both in the ledger and in its lease, or in neither.
  SELECT scope_charges(v_scope, v_tenant, v_start, v_start + interval '1 month'),
    coalesce(sum(greatest(amount_pusd - posted_pusd, 0)), 0),
    coalesce(sum(greatest(amount_pusd - posted_pusd, 0)) FILTER (WHERE is_returned), 0)
  INTO v_charged, v_held, v_owed
  FROM spend_leases
  WHERE scope_id = v_scope AND month = v_month AND closed_at IS NULL AND expires_at > v_now;
  v_free := v_cap - v_charged - v_held;
  IF v_cap IS NULL THEN
    v_granted := v_want;
  ELSIF v_free >= v_min THEN
    -- An eighth of the rest at most: what one edge holds and does not use must not starve others.
    v_granted := least(v_free, greatest(v_min, least(v_want, floor(v_free / 8))));
  END IF;
  IF v_granted > 0 THEN
    INSERT INTO spend_leases (id, scope_id, month, amount_pusd, expires_at)
    VALUES (p_ask->>'lease_id', v_scope, v_month, v_granted, v_expires);
  END IF;
  RETURN jsonb_build_object('granted', v_granted::text, 'limit', v_cap::text,
    'free', (v_free - v_granted)::text, 'slice', 0, 'valid_ms', 60000, 'retry_ms', 1000,
    -- What is charged or certain to be leaves too little, whatever other edges give back.
    'is_exhausted', v_cap - v_charged - v_owed < v_min);
END
$$;
--> statement-breakpoint
-- Grants what can be granted of each ask, as one statement. A scope and kind is locked for the
-- statement, in one order for all edges; each query below the lock sees what was committed before
-- it, which the parts of one WITH query would not.
CREATE FUNCTION take_portions(p_edge text, p_asks jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_ask jsonb;
BEGIN
  PERFORM pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT hashtextextended((ask->>'scope_id') || '/' || (ask->>'kind'), 0) AS key
    FROM jsonb_array_elements(p_asks) AS ask ORDER BY key
  ) AS sorted;
  FOR v_ask IN
    SELECT ask FROM jsonb_array_elements(p_asks) AS ask ORDER BY ask->>'scope_id', ask->>'kind'
  LOOP
    RETURN NEXT jsonb_build_object('scope_id', v_ask->'scope_id', 'kind', v_ask->'kind') ||
      CASE WHEN v_ask->>'kind' = 'spend' THEN take_spend(v_ask)
        ELSE take_units(p_edge, v_ask) END;
  END LOOP;
END
$$;
