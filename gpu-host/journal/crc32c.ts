/**
 * CRC-32C (Castagnoli; RFC 3720, appendix B.4): finds every burst of up to 32 bits, and any five
 * flipped bits in a record of up to 655 bytes, any three in longer ones. Eight bytes a turn, by
 * tables.
 */

/** The polynomial 0x1EDC6F41, bits reversed. */
const POLYNOMIAL = 0x82f63b78
const SLICES = 8

/** Entry 256 · k + b: what byte b adds when k bytes follow it. */
const TABLES = createTables()

function createTables(): Int32Array {
  const tables = new Int32Array(SLICES * 256)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++) {
      value = (value & 1) === 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1
    }
    tables[byte] = value
  }
  for (let i = 256; i < tables.length; i++) {
    const before = tables[i - 256] ?? 0
    tables[i] = (before >>> 8) ^ (tables[before & 0xff] ?? 0)
  }
  return tables
}

/** Of `bytes`, an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array): number {
  const end = bytes.length
  const at = (table: number, value: number): number => TABLES[table * 256 + (value & 0xff)] ?? 0
  const byteAt = (index: number): number => bytes[index] ?? 0
  let crc = -1
  let i = 0
  for (; i + SLICES <= end; i += SLICES) {
    const low =
      crc ^ (byteAt(i) | (byteAt(i + 1) << 8) | (byteAt(i + 2) << 16) | (byteAt(i + 3) << 24))
    crc =
      at(7, low) ^
      at(6, low >>> 8) ^
      at(5, low >>> 16) ^
      at(4, low >>> 24) ^
      at(3, byteAt(i + 4)) ^
      at(2, byteAt(i + 5)) ^
      at(1, byteAt(i + 6)) ^
      at(0, byteAt(i + 7))
  }
  for (; i < end; i++) crc = (crc >>> 8) ^ at(0, crc ^ byteAt(i))
  return ~crc >>> 0
}
