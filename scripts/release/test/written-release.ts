/** Files that `nozzle release` wrote, for tests, and what a service manager would read of them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseEnv } from 'node:util'
import { runInEnv } from '../../test/cli-run.ts'

export class WrittenRelease {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'nozzle-release-'))

  /** Throws what the command said when it fails. */
  async write(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
    const run = await runInEnv(['release', ...argv, '--out', this.folder], env)
    if (run.exitCode !== 0) throw new Error(run.stderr)
  }

  names(): string[] {
    return readdirSync(this.folder)
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  read(name: string): string {
    return readFileSync(this.path(name), 'utf8')
  }

  /** Of several files, the later ones first. */
  environment(...names: readonly string[]): Record<string, string> {
    const merged: NodeJS.Dict<string> = {}
    for (const name of names) Object.assign(merged, parseEnv(this.read(name)))
    return Object.fromEntries(Object.entries(merged).map(([name, value]) => [name, value ?? '']))
  }

  /** What systemd would run, with the environment from the files that the unit names. */
  unit(name: string): { command: string[]; env: Record<string, string> } {
    const lines = this.read(name).split('\n')
    const values = (directive: string): string[] =>
      lines
        .filter((line) => line.startsWith(`${directive}=`))
        .map((line) => line.slice(directive.length + 1))
    const command = values('ExecStart')[0]?.split(' ') ?? []
    return {
      command,
      env: this.environment(...values('EnvironmentFile').map((at) => basename(at))),
    }
  }

  /** The command of an image. */
  imageCommand(name: string): string[] {
    const [, list = '[]'] = /^CMD (\[.*\])$/m.exec(this.read(name)) ?? []
    return JSON.parse(list)
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Arguments of every way to run a host and an edge. */
export const RELEASES: Readonly<Record<string, readonly string[]>> = {
  'host systemd': [
    ...['host', '--target', 'systemd', '--base-model-name', 'tiny', '--drain-s', '45'],
    ...[
      '--edge-url',
      'http://127.0.0.1:8787,http://10.0.0.2:8787',
      '--url',
      'http://10.0.0.7:8790',
    ],
    ...['--store', 's3://packs/pool', '--store-endpoint', 'https://s3.example.com'],
    ...['--network', '10.0.0.0/8', '--network', '192.0.2.53', '--root', process.cwd()],
  ],
  'host docker': ['host', '--target', 'docker', '--base-model-name', 'tiny', '--device', 'cpu'],
  'host docker cuda': ['host', '--target', 'docker', '--base-model-name', 'tiny'],
  'host kubernetes': [
    ...['host', '--target', 'kubernetes', '--base-model-name', 'tiny'],
    ...['--store', 's3://packs/pool', '--replicas', '3', '--gpus', '2'],
  ],
  'edge systemd': [
    ...['edge', '--target', 'systemd', '--base-model-name', 'tiny', '--root', process.cwd()],
    ...['--public-url', 'https://api.example.com'],
  ],
  'edge docker': ['edge', '--target', 'docker', '--base-model-name', 'tiny'],
  'edge kubernetes': ['edge', '--target', 'kubernetes', '--base-model-name', 'tiny'],
}
