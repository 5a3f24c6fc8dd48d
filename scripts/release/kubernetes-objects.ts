/** What the manifests of hosts and edges have in common. */

import type { HorizontalPodAutoscaler } from 'kubernetes-types/autoscaling/v2.js'
import type {
  ConfigMap,
  Container,
  EnvFromSource,
  PodSecurityContext,
} from 'kubernetes-types/core/v1.js'
import type { NetworkPolicy } from 'kubernetes-types/networking/v1.js'
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.js'
import { CONTAINER_USER } from './docker-images.ts'
import type { ServicePlan } from './release-flags.ts'
import type { ReleaseFile, Setting } from './setting.ts'
import { type Comments, formatYaml } from './yaml-file.ts'

export type ServiceName = 'nozzle-host' | 'nozzle-edge'

const NAME_LABEL = 'app.kubernetes.io/name'
/** Prometheus, as its common annotations name it. */
const SCRAPE_ANNOTATIONS = { 'prometheus.io/scrape': 'true', 'prometheus.io/path': '/metrics' }

export function labelsOf(name: ServiceName): Record<string, string> {
  return { [NAME_LABEL]: name, 'app.kubernetes.io/part-of': 'nozzle' }
}

export function selectorOf(name: ServiceName): { matchLabels: Record<string, string> } {
  return { matchLabels: { [NAME_LABEL]: name } }
}

export function podMetadata(name: ServiceName, port: number) {
  return {
    labels: labelsOf(name),
    annotations: { ...SCRAPE_ANNOTATIONS, 'prometheus.io/port': String(port) },
  }
}

export function metadata(plan: ServicePlan, service: ServiceName, name: string = service) {
  return { name, namespace: plan.namespace, labels: labelsOf(service) }
}

export const POD_SECURITY: PodSecurityContext = {
  runAsNonRoot: true,
  runAsUser: CONTAINER_USER,
  runAsGroup: CONTAINER_USER,
  fsGroup: CONTAINER_USER,
  fsGroupChangePolicy: 'OnRootMismatch',
  seccompProfile: { type: 'RuntimeDefault' },
}

export const CONTAINER_SECURITY: NonNullable<Container['securityContext']> = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
}

/** Settings, and secrets that somebody put there: none is in a manifest. */
export function environmentOf(service: ServiceName): EnvFromSource[] {
  return [{ configMapRef: { name: service } }, { secretRef: { name: `${service}-secrets` } }]
}

export function configMap(
  plan: ServicePlan,
  service: ServiceName,
  settings: readonly Setting[],
): ReleaseFile {
  const data = Object.fromEntries(settings.map(({ name, value }) => [name, value]))
  const comments = Object.fromEntries(settings.map(({ name, why }) => [`data.${name}`, why]))
  const object: ConfigMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: metadata(plan, service),
    data,
  }
  return manifest(`${service}.configmap.yaml`, object, comments, [
    'Settings without secrets. Pods read them when they start: `kubectl rollout restart` after a change.',
  ])
}

export function disruptionBudget(
  plan: ServicePlan,
  service: ServiceName,
  why: string,
): ReleaseFile {
  const object: PodDisruptionBudget = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: metadata(plan, service),
    spec: {
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
      selector: selectorOf(service),
    },
  }
  return manifest(`${service}.poddisruptionbudget.yaml`, object, { 'spec.maxUnavailable': why })
}

/** By a metric of the pods, averaged over them. */
export interface Autoscaling {
  readonly kind: 'StatefulSet' | 'Deployment'
  readonly metric: string
  /** Of a pod. */
  readonly target: string
  readonly why: string
  /** Before a pod is taken away, and between one and the next. */
  readonly calmS: number
}

export function autoscaler(
  plan: ServicePlan,
  service: ServiceName,
  scaling: Autoscaling,
): ReleaseFile {
  const object: HorizontalPodAutoscaler = {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: metadata(plan, service),
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: scaling.kind, name: service },
      minReplicas: plan.replicas,
      maxReplicas: plan.replicasMax,
      metrics: [
        {
          type: 'Pods',
          pods: {
            metric: { name: scaling.metric },
            target: { type: 'AverageValue', averageValue: scaling.target },
          },
        },
      ],
      behavior: {
        scaleUp: { stabilizationWindowSeconds: 0 },
        scaleDown: {
          stabilizationWindowSeconds: scaling.calmS,
          policies: [{ type: 'Pods', value: 1, periodSeconds: scaling.calmS }],
        },
      },
    },
  }
  return manifest(
    `${service}.horizontalpodautoscaler.yaml`,
    object,
    {
      'spec.metrics': scaling.why,
      'spec.behavior.scaleDown':
        'One at a time, and late: each that goes drains, and is cold when it is back.',
    },
    [
      'Needs a server of custom metrics (such as prometheus-adapter) that serves what Prometheus scrapes',
      'from the pods. Without one nothing is scaled, and nothing else is hurt.',
    ],
  )
}

/** Who may reach the pods, and whom they may reach beside names and HTTPS. */
export function networkPolicy(
  plan: ServicePlan,
  service: ServiceName,
  rules: NonNullable<NetworkPolicy['spec']>['ingress'],
  egress: NonNullable<NetworkPolicy['spec']>['egress'],
  why: Comments,
): ReleaseFile {
  const object: NetworkPolicy = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: metadata(plan, service),
    spec: {
      podSelector: selectorOf(service),
      policyTypes: ['Ingress', 'Egress'],
      ...(rules && { ingress: rules }),
      egress: [
        {
          ports: [
            { port: 53, protocol: 'UDP' },
            { port: 53, protocol: 'TCP' },
          ],
        },
        ...(egress ?? []),
      ],
    },
  }
  return manifest(`${service}.networkpolicy.yaml`, object, {
    'spec.egress.0.ports': 'Names.',
    ...why,
  })
}

export function manifest(
  path: string,
  object: object,
  comments: Comments = {},
  head: readonly string[] = [],
): ReleaseFile {
  return { path, text: formatYaml(head, object, comments) }
}

/** So that `kubectl apply -k` takes all of them at once. */
export function kustomization(
  plan: ServicePlan,
  service: ServiceName,
  files: readonly ReleaseFile[],
  head: readonly string[],
): ReleaseFile {
  const object = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    namespace: plan.namespace,
    resources: files.map(({ path }) => path),
  }
  const secret = `${service}-secrets --from-env-file=${service}.secrets.env`
  return manifest('kustomization.yaml', object, {}, [
    ...head,
    'The secrets are made by hand once, where `nozzle release secrets` wrote them, and are not in here:',
    `  kubectl create namespace ${plan.namespace}`,
    `  kubectl -n ${plan.namespace} create secret generic ${secret}`,
  ])
}
