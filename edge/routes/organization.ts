/**
 * Usage and costs in the shape of OpenAI's organization API, so that its SDKs and the tools made
 * for it read them. A tenant is a project: a key sees its own, the operator all or those it names.
 */
import { listTenants } from '#db/queries/tenants.ts'
import { type UsageBucket, usageBuckets } from '#db/queries/usage-buckets.ts'
import { requireScope } from '../auth/authenticate.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import {
  parseReportQuery,
  type ReportKind,
  type ReportQuery,
} from '../openai/organization-query.ts'
import { toCostsPage, toUsagePage } from '../openai/organization-reply.ts'
import { type EdgeContext, identify } from '../request-context.ts'

export function showOrganizationUsage(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const { query, buckets } = await readReport(deps, c, 'usage')
    return c.json(toUsagePage(query, buckets))
  }
}

export function showOrganizationCosts(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const { query, buckets } = await readReport(deps, c, 'costs')
    return c.json(toCostsPage(query, buckets))
  }
}

async function readReport(
  deps: Deps,
  c: EdgeContext,
  kind: ReportKind,
): Promise<{ query: ReportQuery; buckets: UsageBucket[] }> {
  const identity = await identify(deps, c)
  requireScope(identity, 'deploy')
  const query = parseReportQuery(kind, new URL(c.req.url), deps.nowMs())
  const { start, end, width, groupBy, keyIds, models, projects } = query
  const tenantIds =
    identity.kind === 'tenant'
      ? ownProject(identity, projects)
      : projects && (await findProjects(deps, projects))
  const wish = { tenantIds, start, end, width: width.unit, groupBy, keyIds, models }
  return { query, buckets: await usageBuckets(deps.db, wish) }
}

/** Another tenant's id looks like one that does not exist. */
function ownProject(
  { tenantId, tenantName }: { readonly tenantId: string; readonly tenantName: string },
  projects: readonly string[] | undefined,
): string[] {
  for (const project of projects ?? []) {
    if (project !== tenantId && project !== tenantName) throw noProject(project)
  }
  return [tenantId]
}

async function findProjects(deps: Deps, projects: readonly string[]): Promise<string[]> {
  const tenants = await listTenants(deps.db)
  return projects.map((project) => {
    const tenant = tenants.find(({ id, name }) => id === project || name === project)
    if (tenant === undefined) throw noProject(project)
    return tenant.id
  })
}

function noProject(project: string): EdgeError {
  return new EdgeError('not_found', `There is no tenant "${project}".`, { param: 'project_ids' })
}
