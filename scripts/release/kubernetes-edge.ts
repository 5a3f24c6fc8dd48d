/** Edges on Kubernetes: a Deployment behind a Service; what lasts is in the database. */
import type { Deployment } from 'kubernetes-types/apps/v1.js'
import type { Job } from 'kubernetes-types/batch/v1.js'
import type { Service } from 'kubernetes-types/core/v1.js'
import { EDGE_STOP_S, type EdgePlan, toEdgeSettings } from './edge-plan.ts'
import {
  autoscaler,
  CONTAINER_SECURITY,
  configMap,
  disruptionBudget,
  environmentOf,
  kustomization,
  manifest,
  metadata,
  networkPolicy,
  POD_SECURITY,
  podMetadata,
  selectorOf,
} from './kubernetes-objects.ts'
import type { ReleaseFile } from './setting.ts'

const NAME = 'nozzle-edge'
const MIGRATIONS = 'nozzle-edge-migrations'
const PORT_NAME = 'http'
/** Until every proxy has heard that the pod takes nothing more. */
const LEAVE_S = 10

export function kubernetesEdgeFiles(plan: EdgePlan): ReleaseFile[] {
  const files = [
    configMap(plan, NAME, toEdgeSettings(plan, '0.0.0.0')),
    clusterService(plan),
    deployment(plan),
    disruptionBudget(plan, NAME, 'At least all but one answer while nodes are emptied.'),
    autoscaler(plan, NAME, {
      kind: 'Deployment',
      metric: 'nozzle_edge_streams_open',
      target: '400',
      why: 'Streams that an edge carries; 400 leave room for those of a pod that goes.',
      calmS: 300,
    }),
    edgePolicy(plan),
  ]
  return [
    ...files,
    migrationJob(plan),
    kustomization(plan, NAME, files, [
      'Nozzle edges. For each release, in this folder:',
      `  kubectl -n ${plan.namespace} delete job ${MIGRATIONS} --ignore-not-found`,
      `  kubectl apply -f ${MIGRATIONS}.job.yaml`,
      `  kubectl -n ${plan.namespace} wait --for=condition=complete --timeout=10m job/${MIGRATIONS}`,
      '  kubectl apply -k .',
    ]),
  ]
}

function clusterService(plan: EdgePlan): ReleaseFile {
  const object: Service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(plan, NAME),
    spec: {
      type: 'ClusterIP',
      selector: selectorOf(NAME).matchLabels,
      ports: [{ name: PORT_NAME, port: 80, targetPort: PORT_NAME }],
    },
  }
  return manifest(`${NAME}.service.yaml`, object, {
    'spec.type':
      'An ingress of yours ends TLS. It must not buffer replies (streams), nor cut a silent one within\na minute.',
  })
}

function deployment(plan: EdgePlan): ReleaseFile {
  const { port, memoryGib } = plan
  const probe = (path: string) => ({ httpGet: { path, port: PORT_NAME }, timeoutSeconds: 5 })
  const object: Deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: metadata(plan, NAME),
    spec: {
      replicas: plan.replicas,
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      selector: selectorOf(NAME),
      template: {
        metadata: podMetadata(NAME, port),
        spec: {
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: LEAVE_S + EDGE_STOP_S,
          securityContext: POD_SECURITY,
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: 'kubernetes.io/hostname',
              whenUnsatisfiable: 'ScheduleAnyway',
              labelSelector: selectorOf(NAME),
            },
          ],
          containers: [
            {
              name: 'edge',
              image: plan.image,
              envFrom: environmentOf(NAME),
              ports: [{ name: PORT_NAME, containerPort: port }],
              resources: {
                requests: { cpu: '500m', memory: `${memoryGib}Gi` },
                limits: { memory: `${memoryGib}Gi` },
              },
              lifecycle: { preStop: { sleep: { seconds: LEAVE_S } } },
              startupProbe: { ...probe('/healthz'), periodSeconds: 2, failureThreshold: 60 },
              readinessProbe: { ...probe('/healthz'), periodSeconds: 5, failureThreshold: 2 },
              livenessProbe: { ...probe('/metrics'), periodSeconds: 10, failureThreshold: 6 },
              securityContext: CONTAINER_SECURITY,
              volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
            },
          ],
          volumes: [{ name: 'tmp', emptyDir: { sizeLimit: '64Mi' } }],
        },
      },
    },
  }
  const pod = 'spec.template.spec'
  return manifest(`${NAME}.deployment.yaml`, object, {
    'spec.strategy': 'A new one serves before an old one goes.',
    [`${pod}.terminationGracePeriodSeconds`]: `${LEAVE_S} s of preStop; streams end within 30 s of SIGTERM, then the database is closed.`,
    [`${pod}.topologySpreadConstraints`]: 'A machine that is lost takes few edges with it.',
    [`${pod}.containers.0.lifecycle`]:
      'SIGTERM refuses new connections: proxies must have stopped sending any by then.',
    [`${pod}.containers.0.readinessProbe`]:
      '503 when it can serve nobody; without the database known keys go on for 15 minutes.',
    [`${pod}.containers.0.livenessProbe`]:
      'Not /healthz: an outage of the database would restart every edge, and forget the known keys.',
  })
}

function migrationJob(plan: EdgePlan): ReleaseFile {
  const object: Job = {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: metadata(plan, NAME, MIGRATIONS),
    spec: {
      backoffLimit: 3,
      activeDeadlineSeconds: 3600,
      ttlSecondsAfterFinished: 86_400,
      template: {
        metadata: { labels: { 'app.kubernetes.io/part-of': 'nozzle' } },
        spec: {
          restartPolicy: 'Never',
          automountServiceAccountToken: false,
          securityContext: POD_SECURITY,
          containers: [
            {
              name: 'migrate',
              image: plan.image,
              command: [
                'node_modules/.bin/node',
                'scripts/task.ts',
                'nozzle',
                'release',
                'migrate',
              ],
              env: [
                {
                  name: 'NOZZLE_DATABASE_URL',
                  valueFrom: {
                    secretKeyRef: { name: `${NAME}-secrets`, key: 'NOZZLE_DATABASE_URL' },
                  },
                },
              ],
              resources: {
                requests: { cpu: '100m', memory: '512Mi' },
                limits: { memory: '512Mi' },
              },
              securityContext: CONTAINER_SECURITY,
            },
          ],
        },
      },
    },
  }
  return manifest(
    `${MIGRATIONS}.job.yaml`,
    object,
    {
      'spec.backoffLimit':
        'Each migration is a transaction: a try that fails leaves the one before.',
      'spec.template.spec.containers.0.env': 'Of all secrets this one alone.',
    },
    [
      'Applies the migrations before edges of a new release start. Migrations only add what the release',
      'before does not need, so its edges serve on. Edges would apply them too, one at a time, and be late.',
    ],
  )
}

function edgePolicy(plan: EdgePlan): ReleaseFile {
  return networkPolicy(
    plan,
    NAME,
    [{ ports: [{ port: plan.port, protocol: 'TCP' }] }],
    [
      { to: [{ podSelector: selectorOf('nozzle-host') }] },
      {
        ports: [
          { port: 5432, protocol: 'TCP' },
          { port: 443, protocol: 'TCP' },
        ],
      },
    ],
    {
      'spec.ingress': 'Clients through the ingress, and hosts.',
      'spec.egress.2.ports':
        'PostgreSQL, and a receiver of CloudEvents. Hosts outside the cluster: their port must be added.',
    },
  )
}
