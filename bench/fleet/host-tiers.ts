/**
 * A simulated host's slots, RAM and disk: the host's own slot table, RAM tier and demand, without
 * bytes. The disk is a bounded list, least recently used first out, as the host's disk tier is.
 */
import { AdapterDemand } from '../../gpu-host/adapters/adapter-demand.ts'
import { DemandPolicy } from '../../gpu-host/adapters/eviction-policy.ts'
import { RamTier } from '../../gpu-host/adapters/ram-tier.ts'
import { type SlotPin, SlotTable } from '../../gpu-host/adapters/slot-table.ts'
import type { AdapterImage } from '../../gpu-host/engine.ts'
import type { HostSizes } from './cost-model.ts'
import { Residency, type ResidencyIndex } from './residency.ts'

/** Stands for an adapter's bytes: one byte that knows its name. */
export class NamedByte extends Uint8Array {
  readonly digest: string

  constructor(digest: string) {
    super(1)
    this.digest = digest
  }
}

export class HostTiers {
  readonly residency: Residency
  readonly #sizes: HostSizes
  /** Least recently used first. */
  readonly #disk = new Map<string, NamedByte>()
  #table: SlotTable
  #ram: RamTier
  #demand: AdapterDemand

  constructor(sizes: HostSizes, index: ResidencyIndex, host: number) {
    this.residency = new Residency(index, host)
    this.#sizes = sizes
    this.#table = new SlotTable(sizes.slots)
    this.#ram = this.#createRam()
    this.#demand = this.#createDemand()
  }

  /** As after a long time of use: `bytes` rarest first. */
  place(bytes: readonly NamedByte[]): void {
    const { slots, ramAdapters, diskAdapters } = this.#sizes
    for (const byte of bytes.slice(-diskAdapters)) this.#keepOnDisk(byte)
    for (const byte of bytes.slice(-ramAdapters)) this.putInRam(byte)
    for (const { digest } of bytes.slice(-slots)) {
      const pin = this.load(digest)
      this.finishLoading(pin)
      this.unpin(pin)
    }
  }

  isInRam(digest: string): boolean {
    return this.#table.isHeld(digest) || this.#ram.has(digest)
  }

  isOnDisk(digest: string): boolean {
    return this.#disk.has(digest)
  }

  used(digest: string): void {
    this.#demand.used(digest)
  }

  wait(digest: string): () => void {
    return this.#demand.wait(digest)
  }

  /** Fetched, by way of the disk where it was not there. */
  putInRam(byte: NamedByte): void {
    const { digest } = byte
    this.#keepOnDisk(byte)
    // All that the RAM tier asks of a manifest.
    const manifest = { digest } as AdapterImage['manifest']
    this.#ram.put({ manifest, payload: byte }, (held) =>
      this.#demand.worth(held, this.#demand.fetchMs(held)),
    )
    if (!this.#table.isHeld(digest)) this.residency.set(digest, 'ram')
  }

  /** A pin where it is in a slot, or on its way there; null = it must be loaded. */
  pin(digest: string): SlotPin | null {
    return this.#table.pin(digest)
  }

  isResident(digest: string): boolean {
    return this.#table.isResident(digest)
  }

  /** Takes the slot whose adapter is worth least. There must be one that nobody has pinned. */
  load(digest: string): SlotPin {
    const slot = this.#table.pickFree((held) =>
      this.#demand.worth(held, this.#demand.refillMs(held)),
    )
    if (slot === null) throw new Error('started without a slot')
    const evicted = this.#table.digestOf(slot)
    if (evicted !== null) {
      this.#demand.evicted(evicted)
      this.#table.startEvicting(slot)
      this.#table.finishEvicting(slot)
      this.#tellTier(evicted)
    }
    this.#ram.get(digest)
    return this.#table.startLoading(slot, digest)
  }

  finishLoading({ slot }: SlotPin): void {
    if (this.#table.stateOf(slot) !== 'loading') return
    this.#table.finishLoading(slot)
    const digest = this.#table.digestOf(slot)
    if (digest !== null) this.residency.set(digest, 'slot')
  }

  unpin(pin: SlotPin): void {
    this.#table.unpin(pin)
  }

  /** Slots and RAM are empty again; the disk is as it was, or empty too. */
  restart({ keepsDisk }: { keepsDisk: boolean }): void {
    if (!keepsDisk) this.#disk.clear()
    this.#table = new SlotTable(this.#sizes.slots)
    this.#ram = this.#createRam()
    this.#demand = this.#createDemand()
    this.residency.restart(this.#disk.keys())
  }

  #keepOnDisk(byte: NamedByte): void {
    const isNew = !this.#disk.delete(byte.digest)
    this.#disk.set(byte.digest, byte)
    if (!isNew) return
    this.residency.set(byte.digest, 'disk')
    if (this.#disk.size <= this.#sizes.diskAdapters) return
    const [oldest] = this.#disk.keys()
    if (oldest === undefined) return
    this.#disk.delete(oldest)
    this.#tellTier(oldest)
  }

  #tellTier(digest: string): void {
    if (this.#table.isHeld(digest)) return
    const below = this.#disk.has(digest) ? 'disk' : null
    this.residency.set(digest, this.#ram.has(digest) ? 'ram' : below)
  }

  #createRam(): RamTier {
    const forget = (payload: Uint8Array): void => {
      if (payload instanceof NamedByte) this.#tellTier(payload.digest)
    }
    const memory = { pin: () => {}, unpin: async (payload: Uint8Array) => forget(payload) }
    return new RamTier(this.#sizes.ramAdapters, memory)
  }

  #createDemand(): AdapterDemand {
    const tiers = { ram: this.#ram, disk: { has: (digest: string) => this.#disk.has(digest) } }
    return new AdapterDemand(new DemandPolicy(this.#sizes.slots), tiers)
  }
}
