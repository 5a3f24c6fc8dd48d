-- As before, and tells what the month is charged: a refusal says how much of the budget is left.
CREATE OR REPLACE FUNCTION take_spend(p_ask jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
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
    'is_exhausted', v_cap - v_charged - v_owed < v_min,
    'spent', (v_charged + v_owed)::text);
END
$$;
