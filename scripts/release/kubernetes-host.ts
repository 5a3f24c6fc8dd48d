/** Hosts on Kubernetes: a StatefulSet, since each has a journal of its own that must outlive it. */
import type { StatefulSet } from 'kubernetes-types/apps/v1.js'
import type { Service } from 'kubernetes-types/core/v1.js'
import { CONTAINER_DATA, type HostPlan, STOP_SLACK_S, toHostSettings } from './host-plan.ts'
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

const NAME = 'nozzle-host'
const MODELS_CLAIM = 'nozzle-base-models'
const PORT_NAME = 'http'
/** Of disk tier and journal, beyond which a host's own bounds are 20 and 4 GiB. */
const DATA_SIZE = '32Gi'
/** Until a base model is read and checked. */
const START_S = 900

export function kubernetesHostFiles(plan: HostPlan): ReleaseFile[] {
  const settings = toHostSettings(plan, { dataDir: CONTAINER_DATA, url: null, store: plan.store })
  const files = [
    configMap(plan, NAME, settings),
    headlessService(plan),
    statefulSet(plan),
    disruptionBudget(
      plan,
      NAME,
      'A node that is emptied waits for the drain of one host after another.',
    ),
    autoscaler(plan, NAME, {
      kind: 'StatefulSet',
      metric: 'nozzle_queue_depth',
      target: '8',
      why: 'Requests that wait at a host: what more hosts would take. GPU use says little, as a full\nbatch and a half empty one keep it as busy.',
      calmS: 900,
    }),
    hostPolicy(plan),
  ]
  return [
    ...files,
    kustomization(plan, NAME, files, [
      'Nozzle hosts. `kubectl apply -k .` in this folder. Before it, a PersistentVolumeClaim',
      `${MODELS_CLAIM} (ReadOnlyMany) that holds ${plan.modelPath.replace('/models/', '')}, and its secrets.`,
    ]),
  ]
}

function headlessService(plan: HostPlan): ReleaseFile {
  const object: Service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(plan, NAME),
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: selectorOf(NAME).matchLabels,
      ports: [{ name: PORT_NAME, port: plan.port, targetPort: PORT_NAME }],
    },
  }
  return manifest(`${NAME}.service.yaml`, object, {
    'spec.clusterIP':
      'Edges choose the host themselves, by where the adapter is: no balancer between.',
    'spec.publishNotReadyAddresses': 'A host that drains is still told of clients that leave.',
  })
}

function statefulSet(plan: HostPlan): ReleaseFile {
  const { port, memoryGib, gpus } = plan
  const probe = (path: string) => ({ httpGet: { path, port: PORT_NAME }, timeoutSeconds: 5 })
  const object: StatefulSet = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: metadata(plan, NAME),
    spec: {
      serviceName: NAME,
      replicas: plan.replicas,
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'RollingUpdate' },
      minReadySeconds: 5,
      selector: selectorOf(NAME),
      template: {
        metadata: podMetadata(NAME, port),
        spec: {
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: plan.drainS + STOP_SLACK_S,
          securityContext: POD_SECURITY,
          ...(gpus > 0 && {
            tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }],
          }),
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
              name: 'host',
              image: plan.image,
              env: [
                {
                  name: 'NOZZLE_HOST_NAME',
                  valueFrom: { fieldRef: { fieldPath: 'metadata.name' } },
                },
                {
                  name: 'NOZZLE_HOST_URL',
                  value: `http://$(NOZZLE_HOST_NAME).${NAME}.${plan.namespace}:${port}`,
                },
              ],
              envFrom: environmentOf(NAME),
              ports: [{ name: PORT_NAME, containerPort: port }],
              resources: {
                requests: { cpu: '2', memory: `${memoryGib}Gi` },
                limits: {
                  memory: `${memoryGib}Gi`,
                  ...(gpus > 0 && { 'nvidia.com/gpu': String(gpus) }),
                },
              },
              startupProbe: {
                ...probe('/healthz'),
                periodSeconds: 5,
                failureThreshold: START_S / 5,
              },
              readinessProbe: { ...probe('/healthz'), periodSeconds: 5, failureThreshold: 1 },
              livenessProbe: { ...probe('/metrics'), periodSeconds: 10, failureThreshold: 6 },
              securityContext: CONTAINER_SECURITY,
              volumeMounts: [
                { name: 'data', mountPath: CONTAINER_DATA },
                { name: 'models', mountPath: '/models', readOnly: true },
                { name: 'tmp', mountPath: '/tmp' },
              ],
            },
          ],
          volumes: [
            { name: 'models', persistentVolumeClaim: { claimName: MODELS_CLAIM, readOnly: true } },
            { name: 'tmp', emptyDir: { sizeLimit: '1Gi' } },
          ],
        },
      },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      volumeClaimTemplates: [
        {
          metadata: { name: 'data' },
          spec: {
            accessModes: ['ReadWriteOnce'],
            resources: { requests: { storage: DATA_SIZE } },
          },
        },
      ],
    },
  }
  const pod = 'spec.template.spec'
  return manifest(`${NAME}.statefulset.yaml`, object, {
    'spec.podManagementPolicy': 'Hosts need nothing of each other, so they start together.',
    'spec.updateStrategy': 'One after the other, each after the drain of the one before.',
    [`${pod}.terminationGracePeriodSeconds`]:
      `NOZZLE_DRAIN_GRACE_MS is ${plan.drainS} s; the last report and the engine need up to ${STOP_SLACK_S} s more.\n` +
      'SIGTERM is the drain, and each heartbeat tells edges of it: no preStop hook is needed.',
    ...(gpus > 0 && {
      [`${pod}.tolerations`]: 'Nodes with GPUs are often tainted, to keep others off.',
    }),
    [`${pod}.topologySpreadConstraints`]: 'A machine that is lost takes few hosts with it.',
    [`${pod}.containers.0.env`]: 'Where edges reach this very pod, by its name in the Service.',
    [`${pod}.containers.0.resources.limits`]:
      'No limit of CPU: a throttled engine thread stalls all streams of the host.',
    [`${pod}.containers.0.startupProbe`]: `Reading the base model may take ${START_S / 60} minutes.`,
    [`${pod}.containers.0.readinessProbe`]: '503 while it drains, or its engine has failed.',
    [`${pod}.containers.0.livenessProbe`]:
      'Not /healthz: a host that drains says 503 there, and must be left alone.',
    'spec.persistentVolumeClaimRetentionPolicy':
      'The journal may hold usage that no edge has acknowledged: a claim is removed by hand.',
  })
}

function hostPolicy(plan: HostPlan): ReleaseFile {
  const from = [
    { podSelector: selectorOf('nozzle-edge') },
    { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } },
  ]
  return networkPolicy(
    plan,
    NAME,
    [{ from, ports: [{ port: plan.port, protocol: 'TCP' }] }],
    [
      { to: [{ podSelector: selectorOf('nozzle-edge') }] },
      { ports: [{ port: 443, protocol: 'TCP' }] },
    ],
    {
      'spec.ingress': 'Edges, and Prometheus in the namespace monitoring.',
      'spec.egress.2.ports':
        'The bucket, and edges elsewhere. Another port of theirs must be added.',
    },
  )
}
