/**
 * What a service is told, whichever way it is run: plain settings with the reason for each, and
 * names of secrets, whose values no generated file holds.
 */
export type SettingName = `NOZZLE_${string}`

export interface Setting {
  readonly name: SettingName
  readonly value: string
  /** One line, for the file that it stands in. */
  readonly why: string
}

export interface SecretName {
  readonly name: SettingName
  readonly why: string
}

/** A file of a release, below its folder. */
export interface ReleaseFile {
  readonly path: string
  readonly text: string
}

export const SERVICE_TARGETS = ['systemd', 'docker', 'kubernetes'] as const
export type ServiceTarget = (typeof SERVICE_TARGETS)[number]
