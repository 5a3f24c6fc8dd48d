/**
 * What a unit of ours is kept from. Reviewed against systemd.exec(5) and
 * `systemd-analyze security`; what is missing is missing for the reason that is written here.
 */
import type { DirectiveGroup } from './unit-file.ts'

export interface Confinement {
  readonly port: number
  /** Peers; none = anybody, which the unit says. */
  readonly networks: readonly string[]
  /** Whether it uses the devices of an NVIDIA driver. */
  readonly hasGpu: boolean
  readonly memoryGib: number
  readonly tasksMax: number
}

export function confine(confinement: Confinement): DirectiveGroup[] {
  return [
    {
      why: 'A user of its own that exists while it runs, and can gain nothing.',
      directives: [
        ['DynamicUser', 'yes'],
        ['NoNewPrivileges', 'yes'],
        ['CapabilityBoundingSet', ''],
        ['AmbientCapabilities', ''],
        ['RestrictSUIDSGID', 'yes'],
        ['UMask', '0077'],
        ['KeyringMode', 'private'],
        ['RemoveIPC', 'yes'],
      ],
    },
    {
      why: 'The file system is read-only but for its StateDirectory and a /tmp of its own.',
      directives: [
        ['ProtectSystem', 'strict'],
        ['ProtectHome', 'yes'],
        ['PrivateTmp', 'yes'],
        ['ProtectProc', 'invisible'],
      ],
    },
    {
      why: 'Nothing of the kernel, the clock or other namespaces is its business.',
      directives: [
        ['ProtectKernelTunables', 'yes'],
        ['ProtectKernelModules', 'yes'],
        ['ProtectKernelLogs', 'yes'],
        ['ProtectControlGroups', 'yes'],
        ['ProtectClock', 'yes'],
        ['ProtectHostname', 'yes'],
        ['RestrictNamespaces', 'yes'],
        ['RestrictRealtime', 'yes'],
        ['LockPersonality', 'yes'],
        ['SystemCallArchitectures', 'native'],
        ['SystemCallFilter', '@system-service'],
        ['SystemCallFilter', '~@privileged'],
        ['SystemCallErrorNumber', 'EPERM'],
      ],
    },
    deviceGroup(confinement.hasGpu),
    networkGroup(confinement),
    {
      why:
        'Bounds. MemoryDenyWriteExecute is not set: V8 compiles into memory that it then runs.\n' +
        'Swap would make every stream stall instead of one process end.',
      directives: [
        ['MemoryMax', `${confinement.memoryGib}G`],
        ['MemorySwapMax', '0'],
        ['TasksMax', String(confinement.tasksMax)],
        ['LimitNOFILE', '65536'],
        ['LimitCORE', '0'],
      ],
    },
  ]
}

function deviceGroup(hasGpu: boolean): DirectiveGroup {
  if (!hasGpu) return { why: 'No devices.', directives: [['PrivateDevices', 'yes']] }
  return {
    why:
      'Of all devices those of the NVIDIA driver. PrivateDevices would take them away too. Its modules\n' +
      'must be loaded before (nvidia-modprobe -u, or nvidia-persistenced).',
    directives: [
      ['DevicePolicy', 'closed'],
      ['DeviceAllow', 'char-nvidia* rw'],
    ],
  }
}

function networkGroup({ port, networks }: Confinement): DirectiveGroup {
  const families: DirectiveGroup['directives'] = [
    ['RestrictAddressFamilies', 'AF_INET AF_INET6 AF_UNIX AF_NETLINK'],
    ['SocketBindDeny', 'any'],
    ['SocketBindAllow', `tcp:${port}`],
  ]
  if (networks.length === 0) {
    const why =
      'It listens on its port alone (AF_NETLINK: name resolution). It may talk to anybody: write the\n' +
      'unit with --network for each of its peers to deny the rest.'
    return { why, directives: families }
  }
  return {
    why:
      'It listens on its port alone (AF_NETLINK: name resolution), and talks to itself and to these\n' +
      'peers, which must include the resolver of names.',
    directives: [
      ...families,
      ['IPAddressDeny', 'any'],
      ['IPAddressAllow', ['localhost', ...networks].join(' ')],
    ],
  }
}
